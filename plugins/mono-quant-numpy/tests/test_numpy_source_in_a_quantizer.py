"""The source as a plugin of mono_quant, found by what it accepts."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mono_quant import Quantizer
from mono_quant.errors import CalibrationError, ConfigurationError
from torch import Tensor, nn


def quantizer(**options: object) -> Quantizer:
    return Quantizer(plugins=["mono_quant_numpy"], autoload=False, show_progress=False, **options)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 2)

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        return self.linear(x * scale[:, None])


@pytest.fixture
def samples() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(70, 6))


def test_an_array_gives_the_ranges_of_its_values(samples: np.ndarray):
    result = quantizer().quantize(nn.Sequential(nn.Linear(6, 3)), samples)
    low, high = min(map(min, samples.tolist())), max(map(max, samples.tolist()))
    assert float(result.model.get_submodule("0").input_scale) == pytest.approx((high - low) / 255, rel=2**-22)
    assert result.info.calibration_samples_used == 3


def test_a_file_gives_what_its_array_gives(samples: np.ndarray, tmp_path: Path):
    np.save(tmp_path / "x.npy", samples)
    np.savez(tmp_path / "x.npz", samples)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 3))
    scales = {
        float(quantizer().quantize(model, data).model.get_submodule("0").input_scale)
        for data in (samples, tmp_path / "x.npy", str(tmp_path / "x.npz"))
    }
    assert len(scales) == 1


def test_a_mapping_gives_keyword_arguments(samples: np.ndarray):
    scale = np.linspace(1, 2, len(samples))
    result = quantizer(num_samples=2, source={"name": "numpy", "batch_size": 10}).quantize(
        Pair(), {"x": samples, "scale": scale}
    )
    seen = [value * factor for row, factor in zip(samples.tolist()[:20], scale, strict=False) for value in row]
    assert float(result.model.linear.input_scale) == pytest.approx((max(seen) - min(seen)) / 255, rel=2**-22)


def test_what_is_wrong_with_the_data_is_said_before_the_model_runs(tmp_path: Path):
    with pytest.raises(CalibrationError, match=r"there is no file .*gone\.npy"):
        quantizer().quantize(nn.Sequential(nn.Linear(6, 3)), tmp_path / "gone.npy")


def test_an_option_that_cannot_be_meant_is_refused(samples: np.ndarray):
    with pytest.raises(ConfigurationError, match="batch_size must be a whole number"):
        quantizer(source={"name": "numpy", "batch_size": 0}).quantize(nn.Sequential(nn.Linear(6, 3)), samples)


MEMORY = """
import resource, sys
import numpy as np
from mono_quant_numpy import NumpySource

with open("/proc/self/status") as status:
    data = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (data + 64 * 2**20,) * 2)
if sys.argv[2] == "read":
    np.load(sys.argv[1])
else:
    source = NumpySource(batch_size=32)
    total = sum(float(batch.args[0].double().sum()) for batch in source.batches(sys.argv[1]))
    assert total == 2.0**20, total
"""
"""With room for 64 MB more than Python and torch take. Mapped files do not count as data."""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits what a process allocates and not what it maps")
@pytest.mark.parametrize(("how", "fits"), [("map", True), ("read", False)])
def test_a_large_file_is_not_read_into_memory(tmp_path: Path, how: str, fits: bool):  # noqa: FBT001
    path = tmp_path / "large.npy"
    large = np.lib.format.open_memmap(path, mode="w+", dtype="<f8", shape=(2**12, 2**13))
    large[:, :: 2**5] = 1.0
    large.flush()
    assert path.stat().st_size > 200e6
    ran = subprocess.run([sys.executable, "-c", MEMORY, str(path), how], capture_output=True, text=True, check=False)  # noqa: S603
    assert (ran.returncode == 0) is fits, ran.stderr
    assert fits or "MemoryError" in ran.stderr
