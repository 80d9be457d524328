"""What is held back of a layer's inputs."""

import pytest
import torch
from torch import nn

from mono_quant.core.held_back import is_held_back
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


@pytest.mark.parametrize("count", [2, 5, 6, 11])
def test_one_input_of_four_is_held_back_and_whole(count: int):
    inputs = numbered(*[(3, 2, 5)] * count)
    channels = seen(inputs)
    held_back = [x for place, x in enumerate(inputs) if is_held_back(place)]
    others = rows([x for place, x in enumerate(inputs) if not is_held_back(place)])
    assert as_set(channels.held_back) == as_set(rows(held_back))
    assert torch.equal(torch.stack(channels.fitted.range), torch.stack(torch.aminmax(others, dim=0)).double())
    torch.testing.assert_close(channels.fitted.mean_square, others.double().square().mean(0))


def test_of_one_input_every_fourth_sample_is():
    (x,) = numbered((7, 2, 5))
    channels = seen([x])
    others = x[[0, 2, 3, 4, 6]].reshape(-1, 5)
    assert as_set(channels.held_back) == as_set(x[[1, 5]].reshape(-1, 5))
    assert torch.equal(torch.stack(channels.fitted.range), torch.stack(torch.aminmax(others, dim=0)).double())


@pytest.mark.parametrize("shape", [(1, 5), (5,), (0, 5)], ids=["row", "vector", "empty"])
def test_of_one_sample_nothing_is(shape: tuple[int, ...]):
    assert not seen(numbered(shape)).held_back.numel()


def test_what_all_inputs_have_is_known_of_them_all():
    inputs = numbered((3, 2, 5), (0, 5), (5,), (4, 5))
    every = rows(inputs).double()
    channels = seen(inputs)
    assert torch.equal(torch.stack(channels.range), torch.stack(torch.aminmax(every, dim=0)))
    torch.testing.assert_close(channels.mean_square, every.square().mean(0))


def test_a_layer_whose_weight_was_cut_is_taken_by_its_weight():
    layer = nn.Linear(8, 2)
    layer.weight = nn.Parameter(layer.weight[:, :5].detach())
    channels = TriedChannels(layer)
    for x in numbered((4, 5), (4, 5)):
        channels(x)
    assert channels.held_back.shape == (4, 5)
