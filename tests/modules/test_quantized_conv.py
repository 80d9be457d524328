"""Quantized ``nn.Conv1d``, ``nn.Conv2d`` and ``nn.Conv3d``."""

from typing import Any

import pytest
import torch
from fake_quantization import assert_right, quantized, random_input
from torch import nn

# said by the float layer that the test compares with
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")

KERNEL = pytest.mark.parametrize("kernel", ["reference", "onednn", "auto"])
AXES = pytest.mark.parametrize("axes", [1, 2, 3])
LAYERS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
SPATIAL = (7, 6, 8)
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "without-bias": {"bias": False},
    "strided": {"stride": 2, "padding": 1},
    "dilated": {"dilation": 2, "padding": 2},
    "grouped": {"groups": 3},
    "depthwise": {"groups": 6, "padding": 1, "out_channels": 6},
    "multiplied": {"groups": 6, "out_channels": 12},
    "one": {"kernel_size": 1},
    "valid": {"padding": "valid"},
    "same": {"padding": "same"},
    "same-even": {"padding": "same", "kernel_size": 2},
    "same-even-dilated": {"padding": "same", "kernel_size": 4, "dilation": 3},
    **{f"{mode}": {"padding": 2, "padding_mode": mode} for mode in ("reflect", "replicate", "circular")},
    **{
        f"{mode}-same": {"padding": "same", "kernel_size": 4, "padding_mode": mode}
        for mode in ("zeros", "reflect", "replicate", "circular")
    },
    **{
        f"{mode}-strided": {"padding": 1, "padding_mode": mode, "stride": 2, "dilation": 2, "groups": 3}
        for mode in ("reflect", "replicate", "circular")
    },
    "reflect-valid": {"padding": "valid", "padding_mode": "reflect"},
}


def conv(axes: int, **options: Any) -> nn.Module:  # noqa: ANN401 - those of the float layer
    torch.manual_seed(0)
    layer: nn.Module = LAYERS[axes](**{"in_channels": 6, "out_channels": 9, "kernel_size": 3, **options})
    return layer


@KERNEL
@AXES
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_it_gives_what_fake_quantization_in_float64_gives(axes: int, options: dict[str, Any], kernel: str):
    layer = conv(axes, **options)
    module = quantized(layer, kernel=kernel)
    assert_right(module, layer, random_input(module, 2, 6, *SPATIAL[:axes]))


@pytest.mark.parametrize(
    ("axes", "options"),
    [
        (2, {"kernel_size": (1, 4), "stride": (2, 1), "padding": (0, 3), "dilation": (1, 2)}),
        (2, {"kernel_size": (2, 3), "padding": "same", "dilation": (3, 1)}),
        (2, {"kernel_size": (3, 2), "padding": (2, 0), "padding_mode": "circular"}),
        (3, {"kernel_size": (2, 1, 3), "stride": (1, 2, 3), "padding": (1, 0, 2), "padding_mode": "replicate"}),
        (3, {"kernel_size": (1, 2, 4), "padding": "same", "padding_mode": "reflect"}),
    ],
)
def test_axes_may_differ(axes: int, options: dict[str, Any]):
    layer = conv(axes, **options)
    module = quantized(layer)
    assert_right(module, layer, random_input(module, 2, 6, *SPATIAL[:axes]))


@KERNEL
@AXES
@pytest.mark.parametrize("option", ["plain", "same-even", "reflect"])
def test_one_sample_without_a_batch_is_like_a_batch_of_one(axes: int, option: str, kernel: str):
    layer = conv(axes, **OPTIONS[option])
    module = quantized(layer, kernel=kernel)
    x = random_input(module, 6, *SPATIAL[:axes])
    assert_right(module, layer, x)
    assert torch.equal(module(x), module(x[None])[0])


@KERNEL
@pytest.mark.parametrize("option", ["plain", "depthwise", "circular", "same-even"])
@pytest.mark.parametrize(("axes", "memory_format"), [(2, torch.channels_last), (3, torch.channels_last_3d)])
def test_channels_last_inputs_and_layers_are_right(
    axes: int, memory_format: torch.memory_format, option: str, kernel: str
):
    layer = conv(axes, **OPTIONS[option])
    module = quantized(layer, kernel=kernel)
    x = random_input(module, 2, 6, *SPATIAL[:axes]).contiguous(memory_format=memory_format)
    assert_right(module, layer, x)
    assert_right(module.to(memory_format=memory_format), layer, x)
    assert_right(quantized(layer.to(memory_format=memory_format), kernel=kernel), layer, x)


@KERNEL
@AXES
def test_the_strides_of_the_input_do_not_matter(axes: int, kernel: str):
    layer = conv(axes)
    module = quantized(layer, kernel=kernel)
    x = random_input(module, 6, 2, *SPATIAL[:axes])
    assert_right(module, layer, x.transpose(0, 1))
    assert_right(module, layer, x.transpose(0, 1)[:1].expand(3, *x.shape[:1], *x.shape[2:]))
    assert_right(module, layer, x.transpose(0, 1).flip(2)[..., ::2].repeat_interleave(2, dim=-1))


@AXES
@pytest.mark.parametrize("option", ["plain", "circular", "same-even"])
def test_an_empty_batch_gives_an_empty_result(axes: int, option: str):
    layer = conv(axes, **OPTIONS[option])
    x = torch.empty(0, 6, *SPATIAL[:axes])
    assert quantized(layer)(x).shape == layer(x).shape
    assert quantized(layer)(x.half()).dtype == torch.half


@KERNEL
@AXES
@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16, torch.float64], ids=str)
def test_layers_and_inputs_of_other_float_types_are_right(axes: int, dtype: torch.dtype, kernel: str):
    layer = conv(axes, padding=1, padding_mode="reflect").to(dtype)
    module = quantized(layer, kernel=kernel)
    assert_right(module, layer, random_input(module, 2, 6, *SPATIAL[:axes]).to(dtype))


@KERNEL
@AXES
@pytest.mark.parametrize("sign", [1, -1])
def test_weights_of_one_sign_and_extreme_inputs_are_exact(axes: int, sign: int, kernel: str):
    layer = conv(axes, padding=1)
    nn.init.constant_(layer.weight, sign * 0.3)
    module = quantized(layer, kernel=kernel)
    for value in (-1e30, 1e30):
        assert_right(module, layer, torch.full((1, 6, *SPATIAL[:axes]), value))


@KERNEL
@AXES
def test_an_input_that_does_not_fit_is_refused_as_by_the_float_layer(axes: int, kernel: str):
    layer = conv(axes)
    module = quantized(layer, kernel=kernel)
    for shape in ((2, 5, *SPATIAL[:axes]), (1, 2, 6, *SPATIAL[:axes]), SPATIAL[:axes], (2, 6, *[2] * axes)):
        for refusing in (layer, module):
            with pytest.raises(RuntimeError):
                refusing(torch.zeros(shape))


def test_an_input_of_integers_is_refused():
    with pytest.raises(TypeError, match=r"float input, got torch\.int64"):
        quantized(conv(1))(torch.ones(1, 6, 7, dtype=torch.long))


def test_it_shows_its_options():
    shown = repr(quantized(conv(2, stride=2, padding=1, padding_mode="reflect")))
    assert shown == (
        "QuantizedConv2d(6, 9, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), dilation=(1, 1), groups=1, "
        "bias=True, padding_mode=reflect, int8 symmetric per-channel(0))"
    )
