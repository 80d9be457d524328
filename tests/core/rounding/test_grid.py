"""What codes stand for, for every width and granularity, against the decoding of stored weights."""

import pytest
import torch

from mono_quant.core.encoding import decode, encode
from mono_quant.core.granularity import Granularity, PerChannel, PerGroup, PerTensor
from mono_quant.core.qtypes import int_type
from mono_quant.core.rounding.grid import Grid, codes_of_stored, stored_codes
from mono_quant.core.tensor_spec import WeightSpec

GRAINS = [PerTensor(), PerChannel(0), PerGroup(4, 0), PerGroup(5, 0)]


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("grain", GRAINS, ids=str)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("shape", [(6, 12), (4, 3, 2, 2)])
def test_the_grid_is_that_of_the_stored_weight(bits: int, grain: Granularity, symmetric: bool, shape: tuple[int, ...]):  # noqa: FBT001
    spec = WeightSpec(dtype=int_type(bits), symmetric=symmetric, granularity=grain, shape=shape)
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(bits))
    stored = encode(weight, spec)
    grid, codes = Grid.of(stored, spec), codes_of_stored(stored[""], spec)
    assert torch.equal(grid.values(codes), decode(stored, spec).flatten(1))
    assert torch.equal(stored_codes(codes, spec), stored[""])
    for column in range(codes.shape[1]):
        nearest, values = grid.nearest(weight.flatten(1)[:, column], column)
        assert torch.equal(nearest.to(torch.int8), codes[:, column])
        assert torch.equal(values, decode(stored, spec).flatten(1)[:, column])
