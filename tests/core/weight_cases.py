"""What the property tests of stored weights draw from."""

import math

import torch
from hypothesis import strategies as st
from torch import Tensor

from mono_quant.core.granularity import Granularity, PerChannel, PerGroup, PerTensor
from mono_quant.core.tensor_spec import WeightSpec

__all__ = ["encoded_cases", "granularities", "specs"]

LARGEST = 1.46875 * 2.0**127
"""About 2.5e38. Beyond it the lowest code of two bits may stand for more than float32 holds."""
_INTEGERS = tuple(f"int{bits}" for bits in range(2, 9))
_SCALED = (*_INTEGERS, "float8_e4m3")


def shapes(*, smallest: int = 1) -> st.SearchStrategy[tuple[int, ...]]:
    """One row, one column and odd sizes are likely."""
    size = st.one_of(st.just(smallest), st.integers(smallest, 3), st.integers(smallest, 9))
    return st.lists(size, min_size=1, max_size=4).map(tuple).filter(lambda shape: math.prod(shape) <= 60)


@st.composite
def granularities(draw: st.DrawFn, shape: tuple[int, ...]) -> Granularity:
    """Any that fits a shape; groups may divide a channel, or not, or be larger than it."""
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    per_group = st.integers(1, 12).map(lambda size: PerGroup(size, axis))
    return draw(st.one_of(st.just(PerTensor()), st.just(PerChannel(axis)), per_group))


@st.composite
def specs(draw: st.DrawFn, dtypes: tuple[str, ...] = _SCALED, *, smallest: int = 1) -> WeightSpec:
    """Any that makes sense."""
    dtype, shape = draw(st.sampled_from(dtypes)), draw(shapes(smallest=smallest))
    symmetric = True if dtype not in _INTEGERS else draw(st.booleans())
    return WeightSpec(dtype=dtype, symmetric=symmetric, granularity=draw(granularities(shape)), shape=shape)


@st.composite
def encoded_cases(draw: st.DrawFn, dtypes: tuple[str, ...] = _SCALED) -> tuple[Tensor, WeightSpec]:
    """A float32 weight and how to store it: any magnitude, one sign, constants, zeros, half steps."""
    spec = draw(specs(dtypes))
    count = math.prod(spec.shape)
    limit = draw(st.sampled_from((LARGEST, 1.0, 2.0**-100, 2.0**-126, 2.0**-149)))
    any_number = st.one_of(st.floats(-limit, limit, width=32), st.sampled_from((0.0, -0.0, limit, -limit)))
    half_steps = st.integers(-254, 254).map(lambda n: n / 2)
    number = draw(st.sampled_from((any_number, half_steps, st.just(draw(any_number)))))
    sign = draw(st.sampled_from((None, 1.0, -1.0)))
    numbers = draw(st.lists(number, min_size=count, max_size=count))
    numbers = numbers if sign is None else [sign * abs(x) for x in numbers]
    return torch.tensor(numbers, dtype=torch.float32).reshape(spec.shape), spec
