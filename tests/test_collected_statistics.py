"""What algorithms collect of inputs can be large: how long it is kept."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mono_quant import Quantizer
from mono_quant.data_passes import DataPasses
from mono_quant.plugin_api import (
    Algorithm,
    AlgorithmSpec,
    Rewrite,
    ValidationFinding,
    Validator,
    ValidatorSpec,
    hookimpl,
)

living: "weakref.WeakSet[Large]" = weakref.WeakSet()
counts: dict[str, int] = {}


def alive() -> int:
    """How many are still reached; and those in cycles, where there is no collector."""
    if gc.isenabled():
        gc.collect()
    return len(living)


class Large:
    def __init__(self) -> None:
        living.add(self)

    def __call__(self, x: Tensor) -> None:
        del x


class Collects(Algorithm):
    def statistic(self, *_: object) -> Large:
        return Large()

    def find(self, *_: object) -> list[Rewrite]:
        return []

    def apply(self, *_: object) -> dict[str, nn.Module]:
        return {}

    def refine(self, *given: object) -> dict[str, Tensor]:
        assert isinstance(given[-1], Large)
        counts["refined"] = alive()
        return {}


class Counts(Validator):
    def validate(self, context: object) -> list[ValidationFinding]:
        del context
        counts["validated"] = alive()
        return []


class Plugin:
    @hookimpl
    def mono_quant_algorithms(self) -> list[AlgorithmSpec]:
        return [AlgorithmSpec(name="collects", summary="as a test says", factory=Collects)]

    @hookimpl
    def mono_quant_validators(self) -> list[ValidatorSpec]:
        return [ValidatorSpec(name="counts", summary="as a test says", factory=Counts)]


class Data:
    """Batches whose third channel is large."""

    def __init__(self) -> None:
        self.passes = 0

    def __iter__(self) -> Iterator[Tensor]:
        self.passes += 1
        counts[f"pass {self.passes}"] = alive()
        for seed in range(3):
            x = torch.randn(8, 16, generator=torch.Generator().manual_seed(seed))
            yield x * torch.tensor([1.0] * 2 + [50.0] + [1.0] * 13)


def counted(algorithms: list[str]) -> dict[str, Any]:
    torch.manual_seed(0)
    counts.clear()
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    Quantizer(
        "int8-dynamic", algorithms=algorithms, validators=["counts"], plugins=[Plugin()], show_progress=False,
        on_failure="ignore",
    ).quantize(model, Data())  # fmt: skip
    return dict(counts)


def test_it_is_gone_when_the_layers_are_done():
    assert counted(["collects"]) == {"pass 1": 2, "refined": 2, "validated": 0}


@pytest.mark.parametrize("is_held", ["by nobody", "by the caller"])
def test_it_is_gone_when_it_is_collected_again(monkeypatch: pytest.MonkeyPatch, is_held: str):
    """Calls of Python leave their arguments to who is called, but not where something, as dynamo, evaluates frames."""
    second = DataPasses.second

    def holding(*args: Any) -> Any:  # noqa: ANN401
        return second(*args)

    if is_held == "by the caller":
        monkeypatch.setattr(DataPasses, "second", holding)
    assert counted(["smoothquant", "collects"]) == {"pass 1": 2, "pass 2": 2, "refined": 2, "validated": 0}


def test_the_first_quantization_of_a_process_ties_it_into_no_cycle():
    """Torch loads dynamo when it first watches operations, and what that leaves is only found by the collector."""
    code = "import gc; gc.disable(); import test_collected_statistics as here; print(here.counted(['collects']))"
    ran = subprocess.run(  # noqa: S603 - this interpreter, this module
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    assert "'validated': 0" in ran.stdout
