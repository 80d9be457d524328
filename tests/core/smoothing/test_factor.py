"""The divisor against the paper's formula, and its noise against rounding that is carried out."""

import math

import pytest
import torch
from torch import Tensor

from mono_quant.core.granularity import PerChannel, PerTensor
from mono_quant.core.qtypes import INT8, UINT8
from mono_quant.core.smoothing.factor import best_divisor, divisor, noise
from mono_quant.core.smoothing.input_channels import InputChannels
from mono_quant.core.smoothing.reader import Reader
from mono_quant.core.tensor_spec import TensorSpec, WeightSpec

INPUT = TensorSpec(dtype=UINT8, symmetric=False, granularity=PerTensor())
ALPHAS = [step / 20 for step in range(21)]


def reader(x: Tensor, weight: Tensor) -> Reader[InputChannels]:
    spec = WeightSpec(dtype=INT8, symmetric=True, granularity=PerChannel(0), shape=weight.shape, float_dtype="float32")
    return Reader(weight, spec, INPUT, channels(x))


def channels(x: Tensor) -> InputChannels:
    seen = InputChannels()
    seen(x)
    return seen


def rounded_output(x: Tensor, weight: Tensor, s: Tensor) -> Tensor:
    """What int8 gives, in float64: both sides rounded to their codes, one scale for the input, one a row."""
    x, weight = x.double() / s, weight.double() * s
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    step = (high - low) / 255
    zero_point = round(-low / step)
    x = ((x / step).round() + zero_point).clamp(0, 255).sub(zero_point) * step
    steps = weight.abs().amax(1, keepdim=True) / 127
    return x @ ((weight / steps).round() * steps).T


def with_outliers(seed: int = 0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    x, weight = torch.randn(4000, 32), torch.randn(24, 32)
    x[:, [5, 20]] *= 80
    return x, weight


def test_the_divisor_is_that_of_the_paper_up_to_one_number_for_all_channels():
    x, weight = with_outliers()
    largest = weight.abs().amax(0).double()
    expected = [
        max(abs(float(v)) for v in x[:, j]) ** 0.7 / max(abs(float(w)) for w in weight[:, j]) ** 0.3 for j in range(32)
    ]
    ratio = divisor(channels(x), largest, 0.7) / torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(ratio, ratio[:1].expand(32), rtol=1e-6, atol=0)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_the_noise_is_that_of_rounding(alpha: float):
    x, weight = with_outliers()
    s = divisor(channels(x), weight.abs().amax(0).double(), alpha)
    error = rounded_output(x, weight, s) - x.double() @ weight.double().T
    measured = float(error.square().mean(0).sum())
    assert 0.8 < noise(reader(x, weight), s) / measured < 1.3  # rounding taken as uniform and independent


def test_the_best_divisor_makes_less_error_than_none_and_than_the_papers_alphas():
    x, weight = with_outliers()
    exact = x.double() @ weight.double().T

    def error(s: Tensor) -> float:
        return float((rounded_output(x, weight, s) - exact).square().mean())

    best = best_divisor([reader(x, weight)], ALPHAS)
    assert best is not None
    largest = weight.abs().amax(0).double()
    assert error(best) < error(torch.ones(32, dtype=torch.float64)) / 10
    assert error(best) <= 1.1 * min(error(divisor(channels(x), largest, alpha)) for alpha in ALPHAS)


def test_even_channels_are_left_as_they_are():
    torch.manual_seed(0)
    assert best_divisor([reader(torch.rand(4000, 32) * 2 - 1, torch.rand(24, 32) - 0.5)], ALPHAS) is None


def test_readers_with_unlike_weights_share_one_divisor_that_suits_both():
    x, weight = with_outliers()
    other = weight.flip(1) * 1000  # its noise is counted as a part of its own output
    readers = [reader(x, weight), reader(x, other)]
    s = best_divisor(readers, ALPHAS)
    assert s is not None
    for one in readers:
        assert noise(one, s) < noise(one, torch.ones_like(s))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_channels_that_are_never_used_on_either_side_have_a_finite_divisor(alpha: float):
    x, weight = with_outliers()
    x[:, 0], weight[:, 1], x[:, 2], weight[:, 2] = 0, 0, 0, 0
    s = divisor(channels(x), weight.abs().amax(0).double(), alpha)
    assert bool((s.isfinite() & (s > 0)).all())
    assert math.isfinite(noise(reader(x, weight), s))
    assert best_divisor([reader(x, weight)], [alpha]) is not None or alpha == 0.0


def test_a_layer_of_zeros_is_left_as_it_is():
    x, weight = with_outliers()
    assert best_divisor([reader(x, torch.zeros_like(weight))], ALPHAS) is None
