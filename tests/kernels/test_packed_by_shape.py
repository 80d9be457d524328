"""A weight that is packed for the shape of the input."""

import torch

from mono_quant.kernels.packed_by_shape import PackedByShape

SHAPES = [torch.Size((rows, 3)) for rows in range(1, 40)]


class Pack:
    """Gives what it was called with, and counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, weight: torch.Tensor, shape: list[int] | None) -> torch.Tensor:
        self.count += 1
        return torch.tensor([float(weight.sum()), *(shape or ())])


def test_each_shape_has_its_own_and_is_packed_once():
    pack = Pack()
    packed = PackedByShape(torch.ones(2), pack)
    for shape in [*SHAPES[:2], *SHAPES[:2]]:
        assert packed.for_input(shape).tolist() == [2, *shape]
    assert pack.count == 1 + 2


def test_those_of_the_last_two_shapes_are_kept():
    pack = Pack()
    packed = PackedByShape(torch.ones(2), pack)
    for shape in SHAPES[:3]:
        packed.for_input(shape)
    assert packed.for_input(SHAPES[1]).tolist() == [2, *SHAPES[1]]
    assert pack.count == 1 + 3
    assert packed.for_input(SHAPES[0]).tolist() == [2, *SHAPES[0]]
    assert pack.count == 1 + 4


def test_after_some_shapes_the_last_one_serves_for_all_others():
    pack = Pack()
    packed = PackedByShape(torch.ones(2), pack)
    given = [packed.for_input(shape).tolist() for shape in SHAPES]
    assert pack.count == 1 + 16
    assert given[:16] == [[2, *shape] for shape in SHAPES[:16]]
    assert given[16:] == [[2, *SHAPES[15]]] * (len(SHAPES) - 16)


def test_a_weight_that_was_written_into_is_not_packed_again():
    weight = torch.ones(2)
    packed = PackedByShape(weight, Pack())
    packed.for_input(SHAPES[0])
    weight.zero_()
    assert packed.for_input(SHAPES[1]).tolist() == [2, *SHAPES[0]], "what was packed is of the weight as it was"
