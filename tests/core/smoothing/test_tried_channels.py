"""What is held back of a layer's inputs, and what is kept of it."""

import pytest
import torch
from torch import nn

from mono_quant.core.smoothing.row_sample import RowSample
from mono_quant.core.smoothing.tried_channels import TriedChannels


def numbered(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    """Inputs none of whose numbers occurs twice."""
    torch.manual_seed(0)
    return [torch.randn(shape) for shape in shapes]


def seen(inputs: list[torch.Tensor]) -> TriedChannels:
    channels = TriedChannels(nn.Linear(5, 2))
    for x in inputs:
        channels(x)
    return channels


def rows(inputs: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([x.reshape(-1, x.shape[-1]) for x in inputs])


def as_set(some: torch.Tensor) -> set[tuple[float, ...]]:
    return {tuple(row.tolist()) for row in some}


@pytest.mark.parametrize("batches", [2, 5, 6, 11])
def test_every_fourth_batch_is_held_back(batches: int):
    inputs = numbered(*[(3, 2, 5)] * batches)
    channels = seen(inputs)
    held_back = [x for place, x in enumerate(inputs) if place % 4 == 1]
    others = rows([x for place, x in enumerate(inputs) if place % 4 != 1])
    assert as_set(channels.held_back) == as_set(rows(held_back))
    assert torch.equal(torch.stack(channels.fitted.range), torch.stack(torch.aminmax(others, dim=0)).double())
    torch.testing.assert_close(channels.fitted.mean_square, others.double().square().mean(0))


def test_of_one_batch_every_fourth_sample_is():
    (x,) = numbered((7, 2, 5))
    channels = seen([x])
    others = x[[0, 2, 3, 4, 6]].reshape(-1, 5)
    assert as_set(channels.held_back) == as_set(x[[1, 5]].reshape(-1, 5))
    assert torch.equal(torch.stack(channels.fitted.range), torch.stack(torch.aminmax(others, dim=0)).double())


@pytest.mark.parametrize("x", [torch.randn(1, 5), torch.randn(5), torch.randn(0, 5)], ids=["row", "vector", "empty"])
def test_of_one_sample_nothing_is(x: torch.Tensor):
    assert not seen([x]).held_back.numel()


def test_what_all_batches_have_is_known_of_them_all():
    inputs = numbered((3, 2, 5), (0, 5), (5,), (4, 5))
    every = rows(inputs).double()
    channels = seen(inputs)
    assert torch.equal(torch.stack(channels.range), torch.stack(torch.aminmax(every, dim=0)))
    torch.testing.assert_close(channels.mean_square, every.square().mean(0))


def test_of_many_rows_each_is_as_likely_to_be_kept_and_none_twice():
    sample = RowSample(1, torch.device("cpu"))
    numbers = torch.arange(40_000.0)[:, None]
    for part in numbers.split(3_000):
        sample(part)
    assert len(as_set(sample.kept)) == 256
    counts = torch.histc(sample.kept, bins=8, min=0, max=40_000)
    assert float((counts - 32).abs().max()) < 25  # over four standard deviations


def test_the_same_rows_are_kept_each_time():
    first, second = (RowSample(3, torch.device("cpu")) for _ in range(2))
    (x,) = numbered((2_000, 3))
    first(x)
    second(x)
    assert torch.equal(first.kept, second.kept)
