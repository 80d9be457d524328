"""``monoquant bench``: float against quantized, at sizes of batches that the user names."""

from pathlib import Path

import pytest
import torch
from cli_models import mlp, rows
from command_line import Commands
from torch import Tensor, nn

from mono_quant import Batch, Quantizer
from mono_quant.bench import time_models
from mono_quant.calibration.rows import resized
from mono_quant.errors import CalibrationError
from mono_quant.runtimes.torch_eager import TorchRuntime

MLP = "--model cli_models:mlp --data cli_models:rows"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    Quantizer().quantize(mlp(), rows()).save(tmp_path / "made.safetensors")
    return tmp_path / "made.safetensors"


def test_each_size_is_timed_in_the_order_given(made: Path, monoquant: Commands):
    timings = monoquant(f"bench --json {MLP} --runtime torch --batch-size 64 --batch-size 1", made).json()["timings"]
    assert [(one["batch_size"], one["runtime"]) for one in timings] == [
        (64, "float"), (64, "torch"), (1, "float"), (1, "torch"),
    ]  # fmt: skip
    for of_float, quantized in zip(timings[::2], timings[1::2], strict=True):
        assert of_float["ms"] > 0
        assert of_float["speedup"] == 1
        assert quantized["speedup"] == of_float["ms"] / quantized["ms"]
        assert quantized["sqnr_db"] > 60


def test_without_a_size_the_batch_is_timed_as_it_is(made: Path, monoquant: Commands):
    timings = monoquant(f"bench --json {MLP} --runtime torch", made).json()["timings"]
    assert {timing["batch_size"] for timing in timings} == {6}


def test_all_runtimes_are_timed_that_are_not_named(made: Path, monoquant: Commands):
    timings = monoquant(f"bench --json {MLP}", made).json()["timings"]
    assert {"float", "torch", "torch-compile"} <= {timing["runtime"] for timing in timings}


def test_what_they_measured_is_what_auto_takes(made: Path, monoquant: Commands):
    timings = monoquant(f"bench --json {MLP}", made).json()["timings"]
    fastest = min((one for one in timings if one["runtime"] != "float" and one["ms"]), key=lambda one: one["ms"])
    quantizer = Quantizer()
    compiled = quantizer.compile(quantizer.load(made, mlp()), rows()[0])
    assert compiled.runtime == fastest["runtime"]
    assert fastest["ms"] in [timing.ms for timing in compiled.timings]


def test_a_runtime_that_is_not_there_is_refused_before_any_work(made: Path, monoquant: Commands):
    ran = monoquant(f"bench {MLP} --runtime none-such", made)
    assert ran.code == 2
    assert "no runtime is named 'none-such'" in ran.err


def test_the_kernel_that_was_asked_for_is_timed(made: Path, monoquant: Commands):
    _, timing = monoquant(f"bench --json {MLP} --runtime torch --kernel reference", made).json()["timings"]
    assert timing["details"] == "reference x 2"
    assert monoquant(f"bench {MLP} --kernel none-such", made).code == 2


def test_threads_are_set_for_the_measurement_alone(made: Path, monoquant: Commands):
    before = torch.get_num_threads()
    assert monoquant(f"bench --json {MLP} --runtime torch --threads {before + 1}", made).json()["threads"] == before + 1
    assert torch.get_num_threads() == before
    assert monoquant(f"bench --json {MLP} --runtime torch", made).json()["threads"] == before


def test_for_people_there_is_a_line_for_each_size_and_runtime(made: Path, monoquant: Commands):
    command = f"bench {MLP} --runtime torch --batch-size 2 --batch-size 3 --threads 1"
    lines = monoquant(command, made).out.splitlines()
    assert lines[0].split() == ["rows", "runtime", "ms", "speedup", "SQNR", "dB", "details"]
    assert [line.split()[:2] for line in lines[1:5]] == [["2", "float"], ["2", "torch"], ["3", "float"], ["3", "torch"]]
    assert lines[5] == "median milliseconds, threads: 1"


def test_one_tensor_in_a_file_is_cut_to_the_largest_size(tmp_path: Path, made: Path, monoquant: Commands):
    torch.save(torch.randn(100, 8), tmp_path / "rows.pt")
    command = f"bench --json --model cli_models:mlp --data {tmp_path / 'rows.pt'} "
    command += "--runtime torch --batch-size 70 --batch-size 2"
    assert [timing["batch_size"] for timing in monoquant(command, made).json()["timings"]] == [70, 70, 2, 2]


def test_batches_of_keyword_arguments_are_timed(tmp_path: Path, monoquant: Commands):
    path = tmp_path / "masked.safetensors"
    masked = "--model cli_models:Masked --data cli_models:masked_batches"
    assert monoquant(f"quantize --quiet {masked} --output", path).code == 0
    timings = monoquant(f"bench --json {masked} --runtime torch --batch-size 3", path).json()["timings"]
    assert [timing["batch_size"] for timing in timings] == [3, 3]


def test_rows_are_cut_or_repeated_in_every_tensor_that_has_as_many():
    x, mask, step = torch.arange(6.0).reshape(3, 2), torch.ones(2, 2), torch.tensor(3)
    batch = Batch((x, [x[:, 0]]), {"mask": mask, "step": step, "name": "kept"})
    longer = resized(batch, 5)
    assert torch.equal(longer.args[0], x[[0, 1, 2, 0, 1]])
    assert torch.equal(longer.args[1][0], x[[0, 1, 2, 0, 1], 0])
    assert longer.kwargs["mask"] is mask
    assert (longer.kwargs["step"] is step, longer.kwargs["name"]) == (True, "kept")
    assert torch.equal(resized(batch, 1).args[0], x[:1])
    assert resized(batch, 3) is batch


@pytest.mark.parametrize("batch", [Batch((3,)), Batch((torch.empty(0, 2),)), Batch((torch.tensor(1),))], ids=repr)
def test_a_batch_without_rows_has_no_size(batch: Batch):
    with pytest.raises(CalibrationError, match="no tensor with rows"):
        resized(batch, 2)


class Recorder(nn.Module):
    """Notes the inputs that it gets, and writes into them."""

    def __init__(self, seen: list[tuple[str, Tensor]], name: str) -> None:
        super().__init__()
        self.seen, self.name = seen, name

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append((self.name, x.clone()))
        assert not self.training
        return x.zero_()


def test_both_models_run_in_turn_in_eval_mode_on_fresh_copies_of_the_batch():
    seen: list[tuple[str, Tensor]] = []
    one, other = Recorder(seen, "float"), Recorder(seen, "quantized")
    x = torch.randn(4, 2)
    timings = time_models(one, other, Batch((x,)), [("torch", TorchRuntime())], [4, 8], budget_s=0)
    assert [timing.batch_size for timing in timings] == [4, 4, 8, 8]
    names = [name for name, _ in seen]
    alone = len(names) // 2 - 10  # runs that compare the quantized model with the reference kernels
    assert names == [*["quantized"] * alone, "float", "quantized", *["float"] * 4, *["quantized"] * 4] * 2
    assert all(torch.equal(got, x if len(got) == 4 else torch.cat([x, x])) for _, got in seen)
    assert one.training
    assert other.training
