"""Divisors against the published formula, written out slowly."""

import math

import pytest
import torch
from torch import Tensor, nn

from mono_quant.core.equalization.divisors import best_divisors, divisors, noise
from mono_quant.core.equalization.link import Link
from mono_quant.core.granularity import Granularity, PerChannel, PerTensor
from mono_quant.core.qtypes import INT8, UINT8
from mono_quant.core.tensor_spec import TensorSpec, WeightSpec

INPUT = TensorSpec(dtype=UINT8, symmetric=False, granularity=PerTensor())


def link(
    weight: Tensor, *, groups: int = 1, grain: Granularity | None = None, x: Tensor | None = None,
    input_spec: TensorSpec | None = None,
) -> Link:  # fmt: skip
    spec = WeightSpec(dtype=INT8, symmetric=True, granularity=grain or PerTensor(), shape=weight.shape)
    x = torch.randn(64, weight.shape[1] * groups) if x is None else x
    return Link.of(weight, groups, (spec, input_spec), (x.amin(dim=0), x.amax(dim=0), x.square().mean(dim=0)))


def uneven(rows: int, *shape: int) -> Tensor:
    """Rows whose ranges differ a hundredfold."""
    return torch.randn(rows, *shape) * torch.logspace(-1, 1, rows).reshape(-1, *[1] * len(shape))


def test_two_layers_are_those_of_the_paper():
    torch.manual_seed(0)
    first, second = uneven(6, 4, 3, 3), torch.randn(5, 6, 2)
    (found,) = divisors([link(first), link(second)])
    for channel in range(6):
        r1, r2 = float(first[channel].abs().max()), float(second[:, channel].abs().max())
        assert float(found[channel]) == pytest.approx(math.sqrt(r1 / r2), rel=1e-6)


def test_ranges_are_alike_on_either_side_in_a_long_chain():
    torch.manual_seed(0)
    weights = [uneven(6, 4, 3), uneven(6, 1, 3), uneven(8, 6, 1), torch.randn(3, 8, 1)]
    chain = [link(w, groups=6 if w.shape[1] == 1 else 1) for w in weights]
    s = divisors(chain)
    first = (weights[0] / s[0][:, None, None]).abs().amax(dim=(1, 2))
    depthwise = (weights[1].double() * (s[0] / s[1])[:, None, None]).abs().amax(dim=(1, 2))
    third = weights[2].double() * s[1][None, :, None] / s[2][:, None, None]
    last = (weights[3].double() * s[2][None, :, None]).abs().amax(dim=(0, 2))
    torch.testing.assert_close(first.double(), depthwise, rtol=0.15, atol=0)
    torch.testing.assert_close(depthwise, third.abs().amax(dim=(0, 2)), rtol=0.15, atol=0)
    torch.testing.assert_close(third.abs().amax(dim=(1, 2)), last, rtol=0.15, atol=0)


def test_a_channel_that_is_not_used_has_a_finite_divisor():
    first, second = torch.randn(4, 3), torch.randn(5, 4)
    first[1], second[:, 2] = 0, 0
    (found,) = divisors([link(first), link(second)])
    assert found.isfinite().all()
    assert (found > 0).all()


@pytest.mark.parametrize("grain", [PerTensor(), PerChannel(0)])
def test_the_noise_is_that_of_rounding_independently(grain: Granularity):
    """Ten thousand roundings with uniform errors: within 5 % of the formula."""
    torch.manual_seed(0)
    weight, x = torch.randn(4, 5).double(), torch.rand(500, 5).double()
    one = link(weight, grain=grain, x=x, input_spec=INPUT)
    step_x = float(x.max()) / 255
    rows = weight.abs().amax(dim=1) if grain == PerChannel(0) else weight.abs().max().expand(4)
    step_w = rows / 127
    power = found = 0.0
    for _ in range(20):
        noise_w = (torch.rand(500, 4, 5).double() - 0.5) * step_w[:, None]
        noise_x = (torch.rand(500, 5).double() - 0.5) * step_x
        found += float(((noise_w * x[:, None]).sum(-1) + noise_x @ weight.T).square().sum()) / 20
    power = 500 * float((weight.square() @ x.square().mean(dim=0)).sum())
    ones = torch.ones(5).double()
    assert one.noise(ones, ones[:4], ones[:4]) == pytest.approx(found / power, rel=0.05)


def test_scaling_all_channels_alike_changes_no_noise():
    torch.manual_seed(0)
    chain = [link(torch.randn(4, 3), input_spec=INPUT), link(torch.randn(5, 4), input_spec=INPUT)]
    plain = noise(chain, [torch.ones(4).double()])
    assert noise(chain, [torch.full((4,), 8.0).double()]) == pytest.approx(plain, rel=1e-6)


def test_even_layers_are_not_worth_a_change():
    weight = nn.init.orthogonal_(torch.empty(16, 16))
    x = torch.rand(64, 16)
    assert best_divisors([link(weight, x=x), link(weight, x=x)]) is None


def test_uneven_rows_of_one_scale_are():
    torch.manual_seed(0)
    x = torch.rand(64, 16)
    first = uneven(16, 16)
    chain = [link(first, x=x), link(torch.randn(16, 16), x=(x @ first.T).relu())]
    found = best_divisors(chain)
    assert found is not None
    assert noise(chain, found) < 0.5 * noise(chain, [torch.ones(16).double()])
