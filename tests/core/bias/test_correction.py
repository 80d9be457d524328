"""Corrected biases against the means that running the layers gives."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from mean_errors import mean_error, run
from torch import Tensor, nn

from mono_quant import QuantizationResult, Quantizer
from mono_quant.core.bias import window_sample
from mono_quant.core.sqnr import sqnr_db

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")

LAYERS: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...]]] = {
    "linear": (lambda **bias: nn.Linear(12, 6, **bias), (5, 12)),
    "conv1d": (lambda **bias: nn.Conv1d(4, 6, 5, stride=2, padding=3, dilation=2, **bias), (4, 21)),
    "conv2d": (lambda **bias: nn.Conv2d(4, 6, 3, padding=1, groups=2, **bias), (4, 7, 9)),
    "depthwise": (lambda **bias: nn.Conv2d(4, 4, (3, 2), stride=(2, 1), groups=4, **bias), (4, 7, 9)),
    "reflect": (lambda **bias: nn.Conv2d(4, 6, 3, padding=(2, 1), padding_mode="reflect", **bias), (4, 7, 9)),
    "circular": (lambda **bias: nn.Conv1d(4, 6, 3, padding=1, padding_mode="circular", **bias), (4, 9)),
    "same": (lambda **bias: nn.Conv2d(4, 6, (4, 3), padding="same", **bias), (4, 7, 9)),
    "conv3d": (lambda **bias: nn.Conv3d(2, 6, (2, 3, 1), padding=(0, 1, 0), **bias), (2, 4, 5, 3)),
}


def positive(shape: Sequence[int], *, batches: int = 4, size: int = 4, seed: int = 0) -> list[Tensor]:
    """Inputs like those after a ReLU, with a mean of their own for each channel and place."""
    generator = torch.Generator().manual_seed(seed)
    offset = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(99))
    return [(torch.randn(size, *shape, generator=generator) + offset).relu() for _ in range(batches)]


def made(layer: str, **options: bool) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(LAYERS[layer][0](**options)).eval()


def quantized(net: nn.Module, data: Sequence[Tensor], scheme: Any, **options: Any) -> QuantizationResult:  # noqa: ANN401
    correction = {"name": "bias-correction", **options}
    return Quantizer(
        scheme, algorithms=["bn-fold", correction], show_progress=False, validators=(), kernel="reference"
    ).quantize(net, data)


def plain(net: nn.Module, data: Sequence[Tensor], scheme: Any) -> nn.Module:  # noqa: ANN401
    return (
        Quantizer(scheme, algorithms=[], show_progress=False, validators=(), kernel="reference")
        .quantize(net, data)
        .model
    )


INT4 = {"name": "int4-weight-only", "granularity": "per-channel"}


@pytest.mark.parametrize("scheme", ["int8-static", "int8-weight-only", INT4], ids=["static", "int8", "int4"])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_mean_error_of_each_channel_goes_to_its_bias_or_nothing_does(
    kind: str,
    scheme: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(window_sample, "_ELEMENTS", 2**17)  # all windows of these data are in the sample
    net, data = made(kind), positive(LAYERS[kind][1])
    before, after = plain(net, data, scheme)[0], quantized(net, data, scheme).model[0]
    expected = mean_error(copy.deepcopy(net[0]), copy.deepcopy(before), data)
    added = after.bias.double() - before.bias.double()
    is_kept = added != 0
    assert is_kept.sum() >= len(added) / 2
    largest = float(expected.abs().max())
    torch.testing.assert_close(added[is_kept], expected[is_kept], rtol=0, atol=1e-6 + 1e-5 * largest)
    assert torch.equal(after.weight, before.weight)


@pytest.mark.parametrize("activations", ["per-tensor", "per-token"])
def test_dynamic_inputs_are_rounded_as_the_layer_rounds_them(activations: str):
    scheme = {"name": "int8-dynamic", "activations": activations}
    net, data = made("linear"), positive((5, 12))
    before, after = plain(net, data, scheme)[0], quantized(net, data, scheme).model[0]
    expected = mean_error(copy.deepcopy(net[0]), before, data)
    added = after.bias.double() - before.bias.double()
    assert (added != 0).any()
    torch.testing.assert_close(added[added != 0], expected[added != 0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_biased_rounding_costs_less_on_data_that_were_not_seen(kind: str):
    net, shape = made(kind), LAYERS[kind][1]
    unseen = torch.cat(positive(shape, batches=8, seed=5))
    expected = run(copy.deepcopy(net), unseen)
    data = positive(shape, batches=16)
    without, corrected = plain(net, data, INT4), quantized(net, data, INT4).model
    assert sqnr_db(expected, run(corrected, unseen)) > sqnr_db(expected, run(without, unseen)) + 0.5


def test_what_clipping_takes_from_the_mean_comes_back():
    net, data = made("linear"), positive((5, 12), batches=12)
    net[0].weight.data.abs_()  # so that all that is cut off goes the same way
    options = {"observer": {"name": "percentile", "percentile": 90.0}, "show_progress": False, "validators": ()}
    without = Quantizer(algorithms=[], **options).quantize(net, data).model
    corrected = Quantizer(algorithms=["bias-correction"], **options).quantize(net, data).model
    unseen = torch.cat(positive((5, 12), batches=8, seed=5))
    expected = run(copy.deepcopy(net), unseen)
    assert sqnr_db(expected, run(corrected, unseen)) > sqnr_db(expected, run(without, unseen)) + 0.5


def test_inputs_without_a_mean_leave_the_bias_almost_everywhere():
    net = made("linear")
    half = [torch.randn(64, 12) for _ in range(4)]
    data = [torch.cat([x[:1], x, -x, -x[:1]]) for x in half]  # the mean of those held back is not zero
    before, after = plain(net, data, INT4)[0], quantized(net, data, INT4).model[0]
    assert (after.bias - before.bias).abs().max() < 1e-6


def test_what_does_not_hold_on_held_back_data_is_dropped():
    net = made("linear")
    x = positive((12,), batches=1, size=64)[0]
    x[1::4] *= -1  # every fourth sample is held back, from the second on
    before, after = plain(net, [x], INT4)[0], quantized(net, [x], INT4).model[0]
    assert torch.equal(after.bias, before.bias)


def test_one_sample_cannot_be_tried_and_changes_nothing():
    net, data = made("linear"), positive((5, 12), batches=1, size=1)
    assert torch.equal(quantized(net, data, INT4).model[0].bias, net[0].bias)


@pytest.mark.parametrize("kind", ["linear", "conv2d"])
def test_a_layer_without_a_bias_gets_one_where_inputs_have_a_mean(kind: str):
    net, data = made(kind, bias=False), positive(LAYERS[kind][1])
    result = quantized(net, data, "int8-static")
    assert [rewrite.layers for rewrite in result.plan.rewrites] == [("0",)]
    assert result.model[0].bias.abs().max() > 0
    assert net[0].bias is None


def test_a_layer_without_a_bias_stays_so_where_the_user_or_the_data_say_so():
    net, data = made("linear", bias=False), positive((5, 12))
    assert quantized(net, data, INT4, create=False).model[0].bias is None
    centred = [torch.cat([x, -x]) for x in (torch.randn(8, 12) for _ in range(4))]
    assert quantized(net, centred, INT4).model[0].bias is None


def test_layers_that_share_a_weight_are_left_alone():
    net = nn.Sequential(*made("linear"), nn.ReLU(), nn.Linear(6, 12), nn.ReLU(), *made("linear", bias=False)).eval()
    net[4].weight = net[0].weight
    result = quantized(net, positive((5, 12)), INT4)
    assert torch.equal(result.model[0].bias, net[0].bias)
    assert result.model[4].bias is None


class Scaled(nn.Linear):
    """Not a function that is known."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * 2)


def test_a_layer_of_the_users_own_is_left_alone():
    torch.manual_seed(0)
    net = nn.Sequential(Scaled(12, 6)).eval()
    assert torch.equal(quantized(net, positive((5, 12)), INT4).model[0].bias, net[0].bias)


def test_without_data_nothing_is_corrected():
    net = made("linear")
    result = Quantizer("int8-weight-only", algorithms=["bias-correction"], validators=()).quantize(net)
    assert torch.equal(result.model[0].bias, net[0].bias)


def test_a_folded_convolution_is_corrected_for_what_it_is_after_that():
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    net, data = nn.Sequential(conv, norm).eval(), positive((4, 7, 9))
    folded = Quantizer(INT4, validators=(), show_progress=False).quantize(net, data).model
    corrected = quantized(net, data, INT4).model
    expected = torch.cat([run(copy.deepcopy(net), x) - run(copy.deepcopy(folded), x) for x in data]).mean(dim=(0, 2, 3))
    added = corrected[0].bias.double() - folded[0].bias.double()
    assert (added != 0).sum() >= 3
    torch.testing.assert_close(added[added != 0], expected[added != 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("scheme", ["int8-static", "int8-dynamic"])
def test_smoothed_layers_are_corrected_for_the_inputs_that_they_quantize(scheme: str):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 6)).eval()
    outliers = torch.ones(12).index_fill(0, torch.tensor([3]), 50.0)
    data = [x * outliers for x in positive((5, 12))]
    smoothed, both = (
        Quantizer(scheme, algorithms=names, show_progress=False, validators=(), kernel="reference")
        .quantize(net, data)
        .model
        for names in (["smoothquant"], ["smoothquant", "bias-correction"])
    )
    assert hasattr(both[0], "input_factor")
    expected = mean_error(copy.deepcopy(net[0]), smoothed[0], data)
    added = both[0].bias.double() - smoothed[0].bias.double()
    assert (added != 0).sum() >= 3
    torch.testing.assert_close(added[added != 0], expected[added != 0], rtol=0, atol=1e-5)
