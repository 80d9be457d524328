"""Every fast kernel against the reference: inputs, scales and weights of every form."""

import attrs
import pytest
import torch
from exact_layers import exact_sum
from on_this_cpu import CPU, KERNELS

from mono_quant.plugin_api.kernel import Kernel, QuantizedOp
from mono_quant.testing import adversarial
from mono_quant.testing.distance import distance_from_reference, floats_of

EVERY_KERNEL = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)


def linear(weight: torch.Tensor, **changes: object) -> QuantizedOp:
    """A linear op whose scales are powers of two, so that codes and products are exact."""
    op = QuantizedOp(
        kind="linear",
        weight=weight,
        weight_scale=torch.full((len(weight),), 0.25),
        bias=None,
        input_scale=0.5,
        input_zero_point=100,
    )
    return attrs.evolve(op, **changes)


@EVERY_KERNEL
@pytest.mark.parametrize("rows", [1, 2, 37])
@pytest.mark.parametrize("view", ["transposed", "every-second", "expanded", "offset"])
def test_the_strides_of_the_input_do_not_matter(kernel: Kernel, rows: int, view: str):
    weight = adversarial.weights(adversarial.GEOMETRIES[4])["random"]
    codes = torch.randint(0, 256, (rows, weight.shape[1]), generator=torch.Generator().manual_seed(0))
    op = linear(weight)
    x = floats_of(codes, op)
    if view == "transposed":
        x = x.t().contiguous().t()
    elif view == "every-second":
        x = x.repeat_interleave(2, dim=1)[:, ::2]
    elif view == "expanded":
        codes, x = codes[:1].expand(rows, -1), x[:1].expand(rows, -1)
    else:
        x = torch.cat([torch.full((3, weight.shape[1]), torch.nan), x])[3:]
    assert torch.equal(kernel.pack(op)(x), exact_sum(codes, op).float() / 8)


@EVERY_KERNEL
def test_the_strides_of_the_weight_do_not_matter(kernel: Kernel):
    weight = torch.arange(-60, 60, dtype=torch.int8).reshape(8, 15)
    codes = torch.arange(30).reshape(2, 15) * 8
    op = linear(weight.t().contiguous().t())
    assert torch.equal(kernel.pack(op)(floats_of(codes, op)), exact_sum(codes, op).float() / 8)


@EVERY_KERNEL
def test_the_input_is_left_as_it_was(kernel: Kernel):
    x = torch.linspace(-100, 100, 36).reshape(4, 9)
    before = x.clone()
    kernel.pack(linear(torch.ones(5, 9, dtype=torch.int8)))(x)
    assert torch.equal(x, before)


@EVERY_KERNEL
def test_ties_go_to_the_even_code(kernel: Kernel):
    x = torch.tensor([[0.25], [0.75], [1.25], [-0.25], [-0.75], [-49.75], [77.25]])
    run = kernel.pack(linear(torch.full((1, 1), 8, dtype=torch.int8), input_zero_point=100))
    assert run(x).flatten().tolist() == [0, 2, 2, 0, -2, -100, 154]


@EVERY_KERNEL
@pytest.mark.parametrize("zero_point", [0, 100, 255])
@pytest.mark.parametrize("value", [200.0, 1e9, 3e38, float("inf")])
def test_values_beyond_the_range_become_the_outermost_codes(kernel: Kernel, zero_point: int, value: float):
    run = kernel.pack(linear(torch.full((3, 20), 8, dtype=torch.int8), input_zero_point=zero_point))
    x = torch.full((2, 20), value)
    assert run(x).unique().tolist() == [20 * (255 - zero_point)]
    assert run(-x).unique().tolist() == [20 * -zero_point]


@EVERY_KERNEL
@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_extreme_scales_are_no_less_exact(kernel: Kernel, scale: float):
    geometry = adversarial.GEOMETRIES[4]
    codes = adversarial.codes(geometry)["random"]
    weight_scale = torch.full((geometry.out,), scale)
    op = linear(adversarial.weights(geometry)["random"], weight_scale=weight_scale, input_scale=1e-3)
    x = floats_of(codes, op)
    assert distance_from_reference(kernel.pack(op)(x), x, op) <= 1


@EVERY_KERNEL
@pytest.mark.parametrize("pattern", ["positive", "negative", "one-large", "random"])
@pytest.mark.parametrize("step", [1e-30, 0.001, 12.8, 1e20])
def test_a_dynamic_op_takes_its_scale_from_each_input(kernel: Kernel, pattern: str, step: float):
    geometry = adversarial.GEOMETRIES[7]
    op = linear(adversarial.weights(geometry)[pattern], bias=torch.linspace(-3, 3, geometry.out))
    dynamic = attrs.evolve(op, input_scale=None, input_zero_point=None)
    run = kernel.pack(dynamic)
    codes = adversarial.codes(geometry)
    for name in ("alternating", "random", "lowest"):
        x = floats_of(codes[name], attrs.evolve(op, input_scale=step))
        assert distance_from_reference(run(x), x, dynamic) <= 1


@EVERY_KERNEL
def test_between_two_codes_it_takes_one_of_the_two(kernel: Kernel):
    """A kernel may multiply by ``1 / scale`` where the reference divides: halfway, the roundings can differ."""
    op = linear(torch.full((1, 1), 8, dtype=torch.int8), weight_scale=torch.ones(1), input_scale=0.1)
    codes = torch.arange(-100, 155)
    y = kernel.pack(op)(((codes + 0.5) * 0.1)[:, None]).double().flatten() / 0.8
    assert float(torch.minimum((y - codes).abs(), (y - codes - 1).abs()).max()) < 1e-5


@EVERY_KERNEL
def test_a_sum_that_just_fits_int32_is_right(kernel: Kernel):
    channels = (2**31 - 1) // (255 * 64)
    op = linear(torch.full((2, channels), 64, dtype=torch.int8), input_zero_point=0)
    assert kernel.supports(op, CPU)
    assert kernel.pack(op)(torch.full((1, channels), 127.5)).tolist() == [[float(255 * 64 * channels) / 8] * 2]


@EVERY_KERNEL
def test_a_sum_that_could_overflow_int32_is_refused(kernel: Kernel):
    channels = (2**31 - 1) // (255 * 64) + 1
    op = linear(torch.full((2, channels), -64, dtype=torch.int8))
    assert kernel.supports(op, CPU).why_not == "a sum of this layer can overflow int32"


@EVERY_KERNEL
def test_other_devices_are_refused(kernel: Kernel):
    assert "CPU only" in kernel.supports(linear(torch.ones(1, 1, dtype=torch.int8)), torch.device("cuda")).why_not


def test_fbgemm_refuses_convolutions():
    op = linear(torch.ones(2, 3, 3, dtype=torch.int8), kind="conv1d", stride=(1,), padding=(0,), dilation=(1,))
    assert not KERNELS["fbgemm"].supports(op, CPU)


def test_onednn_refuses_an_input_smaller_than_the_kernel():
    op = linear(torch.ones(2, 3, 3, dtype=torch.int8), kind="conv1d", stride=(1,), padding=(0,), dilation=(1,))
    run = KERNELS["onednn"].pack(op)
    with pytest.raises(RuntimeError, match=r"input of \[1, 3, 2\] is smaller than the kernel \[3\]"):
        run(torch.ones(1, 3, 2))


@EVERY_KERNEL
@pytest.mark.parametrize("scales", [(), (1,), (4,), (6,), (5, 1), (9,)], ids=str)
def test_scales_that_are_not_one_for_each_output_channel_are_refused(kernel: Kernel, scales: tuple[int, ...]):
    op = linear(torch.ones(5, 9, dtype=torch.int8))
    assert kernel.supports(op, CPU)
    verdict = kernel.supports(attrs.evolve(op, weight_scale=torch.ones(scales)), CPU)
    assert verdict.why_not == f"its 5 output channels have scales of shape {list(scales)}"
