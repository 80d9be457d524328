"""``monoquant bench``: float against quantized, at sizes of batches that the user names."""

from pathlib import Path

import pytest
import torch
from cli_models import mlp, rows
from command_line import Commands
from torch import Tensor, nn

from mono_quant import Batch, Quantizer
from mono_quant.bench import resized, time_models
from mono_quant.errors import CalibrationError

MLP = "--model cli_models:mlp --data cli_models:rows"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    Quantizer().quantize(mlp(), rows()).save(tmp_path / "made.safetensors")
    return tmp_path / "made.safetensors"


def test_each_size_is_timed_once_in_the_order_given(made: Path, monoquant: Commands):
    timings = monoquant(f"bench --json {MLP} --batch-size 64 --batch-size 1", made).json()["timings"]
    assert [timing["batch_size"] for timing in timings] == [64, 1]
    for timing in timings:
        assert timing["float_ms"] > 0
        assert timing["speedup"] == timing["float_ms"] / timing["quantized_ms"]
        assert sum(timing["kernels"].values()) == 2


def test_without_a_size_the_batch_is_timed_as_it_is(made: Path, monoquant: Commands):
    (timing,) = monoquant(f"bench --json {MLP}", made).json()["timings"]
    assert timing["batch_size"] == 6


def test_the_kernel_that_was_asked_for_is_timed(made: Path, monoquant: Commands):
    (timing,) = monoquant(f"bench --json {MLP} --kernel reference", made).json()["timings"]
    assert timing["kernels"] == {"reference": 2}
    assert monoquant(f"bench {MLP} --kernel none-such", made).code == 2


def test_threads_are_set_for_the_measurement_alone(made: Path, monoquant: Commands):
    before = torch.get_num_threads()
    assert monoquant(f"bench --json {MLP} --threads {before + 1}", made).json()["threads"] == before + 1
    assert torch.get_num_threads() == before
    assert monoquant(f"bench --json {MLP}", made).json()["threads"] == before


def test_for_people_there_is_a_line_for_each_size(made: Path, monoquant: Commands):
    lines = monoquant(f"bench {MLP} --batch-size 2 --batch-size 3 --threads 1", made).out.splitlines()
    assert lines[0].split() == ["rows", "float", "quantized", "speedup", "kernels"]
    assert [line.split()[0] for line in lines[1:3]] == ["2", "3"]
    assert lines[3] == "median milliseconds, threads: 1"


def test_one_tensor_in_a_file_is_cut_to_the_largest_size(tmp_path: Path, made: Path, monoquant: Commands):
    torch.save(torch.randn(100, 8), tmp_path / "rows.pt")
    command = f"bench --json --model cli_models:mlp --data {tmp_path / 'rows.pt'} --batch-size 70 --batch-size 2"
    assert [timing["batch_size"] for timing in monoquant(command, made).json()["timings"]] == [70, 2]


def test_batches_of_keyword_arguments_are_timed(tmp_path: Path, monoquant: Commands):
    path = tmp_path / "masked.safetensors"
    masked = "--model cli_models:Masked --data cli_models:masked_batches"
    assert monoquant(f"quantize --quiet {masked} --output", path).code == 0
    (timing,) = monoquant(f"bench --json {masked} --batch-size 3", path).json()["timings"]
    assert timing["batch_size"] == 3


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
    timings = time_models(one, other, Batch((x,)), [4, 8], budget_s=0)
    assert [timing.batch_size for timing in timings] == [4, 8]
    names = [name for name, _ in seen]
    assert names == ["float", "quantized", *["float"] * 4, *["quantized"] * 4] * 2
    assert all(torch.equal(got, x if len(got) == 4 else torch.cat([x, x])) for _, got in seen)
    assert one.training
    assert other.training
