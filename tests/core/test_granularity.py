from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mono_quant.core.granularity import Granularity, PerChannel, PerGroup, PerTensor, PerToken, as_granularity
from mono_quant.errors import ConfigurationError


def numbered(*shape: int) -> Tensor:
    return torch.arange(float(torch.Size(shape).numel())).reshape(shape)


@pytest.mark.parametrize(
    ("shape", "view"),
    [((), (1, 1, 1)), ((5,), (1, 1, 5)), ((2, 3), (2, 1, 3)), ((2, 3, 4, 5), (2, 1, 60)), ((1, 7), (1, 1, 7))],
)
def test_per_tensor_shows_observations_of_one_group(shape: tuple[int, ...], view: tuple[int, ...]):
    assert PerTensor().view(numbered(*shape)).shape == view


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 4), (0, 2, 3)])
def test_per_tensor_shows_what_is_empty_as_empty_observations(shape: tuple[int, ...]):
    for x in (torch.empty(shape), torch.empty(shape[::-1]).permute(*range(len(shape) - 1, -1, -1))):
        shown = PerTensor().view(x)
        assert shown.shape == (shape[0], 1, 0 if not shape[0] else torch.Size(shape[1:]).numel())


def test_per_tensor_keeps_the_elements_of_each_observation_together():
    x = numbered(3, 4, 5)
    shown = PerTensor().view(x)
    assert [sorted(row.tolist()) for row in shown[:, 0]] == [sorted(row.flatten().tolist()) for row in x]


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -2])
def test_per_channel_gathers_each_index_along_its_axis(axis: int):
    x = numbered(2, 3, 4, 5)
    shown = PerChannel(axis).view(x)
    slow = [sorted(x.select(axis, index).flatten().tolist()) for index in range(x.shape[axis])]
    assert shown.shape == (1, x.shape[axis], x.numel() // x.shape[axis])
    assert [sorted(group.tolist()) for group in shown[0]] == slow


@pytest.mark.parametrize(
    "x",
    [
        numbered(2, 3, 4, 5),
        numbered(2, 3, 4, 5).to(memory_format=torch.channels_last),
        numbered(2, 3, 4, 5, 6).to(memory_format=torch.channels_last_3d),
        numbered(2, 3, 4).transpose(1, 2),
        numbered(4, 6).t(),
        numbered(6, 4)[::2],
    ],
    ids=["contiguous", "channels-last", "channels-last-3d", "transposed", "columns", "every-other-row"],
)
def test_per_tensor_copies_nothing_where_the_strides_allow_a_view(x: Tensor):
    assert PerTensor().view(x).data_ptr() == x.data_ptr()


def test_per_channel_copies_nothing_of_a_weight():
    weight = numbered(4, 3, 2, 2)
    assert PerChannel(0).view(weight).data_ptr() == weight.data_ptr()


@pytest.mark.parametrize("size", [1, 4, 5, 7, 20, 21])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_per_group_gathers_neighbours_within_a_channel_and_fills_the_last_group_up(size: int, axis: int):
    x = numbered(2, 3, 4) + 1
    shown = PerGroup(size, axis).view(x)
    slow = []
    for channel in range(x.shape[axis]):
        elements = x.select(axis, channel).flatten().tolist()
        slow += [elements[start : start + size] for start in range(0, len(elements), size)]
    assert shown.shape == (1, len(slow), size)
    assert shown[0].tolist() == [group + [0.0] * (size - len(group)) for group in slow]


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 4, 3), (0, 3), (2, 3, 4, 5)])
def test_per_token_shows_each_vector_along_the_last_axis(shape: tuple[int, ...]):
    x = numbered(*shape)
    shown = PerToken().view(x)
    assert shown.shape == (1, x.numel() // shape[-1], shape[-1])
    assert torch.equal(shown[0], x.reshape(-1, shape[-1]))


@pytest.mark.parametrize("granularity", [PerTensor(), PerChannel(0), PerChannel(1), PerGroup(2), PerGroup(3, 1)])
def test_an_empty_tensor_has_an_empty_view(granularity: Granularity):
    for shape in [(0, 3), (3, 0), (0, 0), (2, 0, 3)]:
        assert granularity.view(torch.empty(shape)).numel() == 0


@pytest.mark.parametrize(("shape", "axis"), [((), 0), ((3,), 1), ((3,), -2), ((2, 3), 2)])
@pytest.mark.parametrize("kind", [PerChannel, lambda axis: PerGroup(2, axis)], ids=["per-channel", "per-group"])
def test_an_axis_that_the_tensor_has_not_is_refused(
    kind: Callable[[int], Granularity], shape: tuple[int, ...], axis: int
):
    with pytest.raises(ConfigurationError, match=rf"axis={axis}.*does not fit") as caught:
        kind(axis).view(torch.zeros(shape))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("size", [0, -1, 2.0, "2", None])
def test_a_group_of_no_whole_number_of_weights_is_refused(size: object):
    with pytest.raises(ConfigurationError, match=r"size of a group must be a whole number of at least 1"):
        PerGroup(size)  # type: ignore[arg-type]


def test_per_tensor_values_are_numbers():
    assert PerTensor().unview(torch.ones(1)).shape == ()


def test_per_channel_values_are_vectors():
    assert PerChannel(1).unview(torch.ones(3)).shape == (3,)


@pytest.mark.parametrize("granularity", [PerGroup(2), PerToken()])
def test_values_of_groups_and_tokens_are_vectors(granularity: Granularity):
    assert granularity.unview(torch.ones(6)).shape == (6,)


@pytest.mark.parametrize(
    "granularity",
    [
        PerTensor(), PerChannel(0), PerChannel(12), PerChannel(-1), PerToken(),
        PerGroup(128), PerGroup(1, 1), PerGroup(32, -1),
    ],
    ids=str,
)  # fmt: skip
def test_a_granularity_is_read_back_from_its_text(granularity: Granularity):
    assert as_granularity(str(granularity)) == granularity


@pytest.mark.parametrize(
    "text",
    [
        "",
        "per-channel",
        "per-channel()",
        "per-channel(x)",
        "per-channel(1",
        "per-row",
        "per-channel(--1)",
        "per-channel(²)",
        "per-group",
        "per-group()",
        "per-group(x)",
        "per-group(-1)",
        "per-group(2,1)",
        "per-group(2, )",
        "per-group(²)",
        "per-token(0)",
    ],
)
def test_text_that_names_no_granularity_is_refused(text: str):
    with pytest.raises(ConfigurationError, match="is not a granularity"):
        as_granularity(text)
