"""The factor against the paper's method in float64, and what it does at the ends."""

import pytest
import torch
from slow_awq import best, divisors, output_error
from torch import Tensor, nn

from mono_quant.core.awq.search import best_factor, candidates, error, power
from mono_quant.core.awq.seen_inputs import SeenInputs
from mono_quant.core.granularity import PerChannel, PerGroup, PerTensor
from mono_quant.core.qtypes import int_type
from mono_quant.core.smoothing.reader import Reader
from mono_quant.core.tensor_spec import WeightSpec

SIZE = 8
COLUMNS = 20
"""Two groups and a half."""


def inputs(rows: int = 200, seed: int = 0) -> Tensor:
    """A few channels far larger than the others, and some that go together."""
    x = torch.randn(rows, COLUMNS, generator=torch.Generator().manual_seed(seed))
    x[:, [2, 11]] *= 40
    x[:, 5] = x[:, 2] / 3 + x[:, 5]
    return x


def weight_of(rows: int = 12, seed: int = 1) -> Tensor:
    return torch.randn(rows, COLUMNS, generator=torch.Generator().manual_seed(seed))


def layer(
    x: Tensor, weight: Tensor, bits: int = 4, *, symmetric: bool = False, grain: object = None
) -> Reader[SeenInputs]:
    seen = SeenInputs(nn.Linear(weight.shape[1], weight.shape[0]))
    for batch in x.split(64):
        seen(batch)
    spec = WeightSpec(
        dtype=int_type(bits), symmetric=symmetric, granularity=grain or PerGroup(SIZE), shape=weight.shape,
        float_dtype=str(weight.dtype).removeprefix("torch."),
    )  # fmt: skip
    return Reader(weight, spec, None, seen)


def ratios(one: Tensor, other: Tensor) -> Tensor:
    ratio = one.double() / other.double()
    return ratio / ratio[0]


def test_the_candidates_are_those_of_the_paper_up_to_one_number_for_all_channels():
    x, weights = inputs(), [weight_of(), weight_of(7, seed=2) * 50]
    found = list(candidates([layer(x, weight) for weight in weights], grid=5))
    _, one, *expected, _ = divisors(x, weights, 5, size=SIZE)  # at α = 1 both formulas give the same
    assert bool((one == 1).all())
    for s, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(ratios(s, wanted), torch.ones(COLUMNS, dtype=torch.float64), rtol=1e-5, atol=0)
        assert float(s.log().mean()) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_the_error_is_that_of_the_outputs_over_all_rows(bits: int, symmetric: bool, alpha: float):  # noqa: FBT001
    x, weight = inputs(), weight_of()
    s = x.abs().mean(0).double() ** alpha
    one = layer(x, weight, bits, symmetric=symmetric)
    expected = output_error(x, weight, s, bits=bits, size=SIZE, symmetric=symmetric)
    assert error(one, s.reciprocal().float()) / 2 == pytest.approx(expected, rel=1e-3)
    assert power(one) / 2 == pytest.approx(float((x.double() @ weight.double().T).square().sum()), rel=1e-5)


@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_the_factor_is_that_of_the_slow_search(bits: int, seed: int):
    x, weights = inputs(seed=seed), [weight_of(), weight_of(7, seed=seed + 2) * 50]
    layers = [layer(x, weight, bits) for weight in weights]
    factor = best_factor(layers, grid=10, at_most=0.999)
    s, least, plain = best(x, weights, 10, bits=bits, size=SIZE)
    assert factor is not None
    assert least < plain / 2
    torch.testing.assert_close(ratios(1 / factor, s), torch.ones(COLUMNS, dtype=torch.float64), rtol=1e-4, atol=0)
    assert sum(error(one, factor) / power(one) for one in layers) == pytest.approx(least, rel=1e-3)


def test_in_one_group_the_largest_input_is_protected():
    """By hand: of two weights in a range that others set, the one with the large input loses less when multiplied."""
    x = torch.ones(4, 3) * torch.tensor([1.0, 100.0, 1.0])
    weight = torch.tensor([[1.0, 0.23, -0.875]])
    one = layer(x, weight, grain=PerChannel(0))
    factor = best_factor([one], grid=20, at_most=0.999)
    assert factor is not None
    assert float(factor[1]) < float(factor[0])
    assert error(one, factor) < error(one, torch.ones(3)) / 10


def test_what_saves_too_little_is_left():
    one = layer(inputs(), weight_of())
    assert best_factor([one], grid=10, at_most=0.9) is not None
    assert best_factor([one], grid=10, at_most=1e-3) is None


@pytest.mark.parametrize("grain", [PerTensor(), PerChannel(0), PerGroup(SIZE), PerGroup(COLUMNS)])
@pytest.mark.parametrize("symmetric", [True, False])
def test_it_never_makes_more_error_in_any_granularity(grain: object, symmetric: bool):  # noqa: FBT001
    for scale in (1.0, 1e-20, 1e15):
        one = layer(inputs() * scale, weight_of() / scale, grain=grain, symmetric=symmetric)
        factor = best_factor([one], grid=10, at_most=0.999)
        assert factor is not None
        assert error(one, factor) < error(one, torch.ones(COLUMNS))


def test_channels_that_the_data_never_used_are_not_multiplied():
    x = inputs()
    x[:, [3, 7]] = 0
    factor = best_factor([layer(x, weight_of())], grid=10, at_most=0.999)
    assert factor is not None
    assert factor[[3, 7]].tolist() == [1, 1]


@pytest.mark.parametrize("weight", [torch.zeros(12, COLUMNS), torch.ones(12, COLUMNS)], ids=["zeros", "alike"])
def test_weights_that_rounding_costs_nothing_are_left(weight: Tensor):
    assert best_factor([layer(inputs(), weight)], grid=10, at_most=0.999) is None


def test_a_column_of_zero_weights_has_a_finite_factor():
    weight = weight_of()
    weight[:, 4] = 0
    for s in candidates([layer(inputs(), weight)], grid=10):
        assert bool((s.isfinite() & (s > 0)).all())


def test_factors_by_which_half_precision_overflows_are_not_taken():
    weight = (weight_of() * 15000).half()
    one = layer(inputs(), weight)
    factor = best_factor([one], grid=10, at_most=0.999)
    assert factor is None or bool(torch.isfinite((weight.double() / factor).half()).all())
