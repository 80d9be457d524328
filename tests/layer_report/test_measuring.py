"""The report of a run, layer by layer: figures worked out again by hand."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest
import torch
from small_models import FEATURES, ConvNet, Tied, images, mlp, quantize, rows, sqnr, tokens
from torch import Tensor, nn
from torch.nn import functional

from mono_quant import LayerReport, MinSQNR, QuantizationResult, Quantizer
from mono_quant.core.tensor_spec import TensorSpec
from mono_quant.layer_report.measuring import _Beside
from mono_quant.modules import SmoothedLinear


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def by_name(result: QuantizationResult) -> dict[str, LayerReport]:
    return {layer.name: layer for layer in result.layers}


def inputs_of(model: nn.Module, x: Any) -> dict[str, Tensor]:  # noqa: ANN401 - a batch
    """What each leaf is given in the float model."""
    seen: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        module.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
    with torch.no_grad():
        model.eval()(x)
    return seen


def alone(result: QuantizationResult, name: str, x: Tensor) -> Tensor:
    """A quantized layer on an input, in plain float arithmetic."""
    layer = result.model.get_submodule(name)
    x = x.double()
    if layer.input_qparams is not None:
        scale, zero_point = (float(value) for value in layer.input_qparams)
        x = ((x / scale).round() + zero_point).clamp(0, 255).sub(zero_point) * scale
    weight, bias = layer.dequantized().double(), layer.bias.double()
    return functional.conv2d(x, weight, bias) if weight.ndim == 4 else functional.linear(x, weight, bias)


@pytest.mark.parametrize("scheme", ["int8-static", "int8-weight-only"])
def test_the_output_sqnr_is_that_of_the_layer_alone_given_what_the_float_model_gives_it(scheme: str):
    model, data = mlp(), rows()
    result = quantize(model, data, scheme=scheme, kernel="reference")
    given = inputs_of(model, data[0])
    for name in ("0", "2"):
        expected = model.get_submodule(name)(given[name]).detach()
        assert by_name(result)[name].output_sqnr_db == pytest.approx(
            sqnr(expected, alone(result, name, given[name])), abs=1e-3
        )


def test_a_folded_layer_is_compared_with_the_float_layer_after_the_fold():
    model, data = ConvNet(), images()
    result = quantize(model, data, kernel="reference")
    given = inputs_of(model, data[0])
    with torch.no_grad():
        expected = model.bn(model.conv(given["conv"]))
    found = by_name(result)["conv"].output_sqnr_db
    assert found == pytest.approx(sqnr(expected, alone(result, "conv", given["conv"])), abs=1e-3)
    assert found > 30


class Encoder(nn.Module):
    """A norm with an outlier channel before a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(32), nn.Linear(32, 64), nn.Linear(64, 32)
        nn.init.constant_(self.norm.weight[3], 60.0)
        nn.init.constant_(self.up.weight[:, 3], 0.01)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return y + self.down(torch.relu(self.up(y)))


def test_smoothing_takes_the_outliers_away_and_the_report_says_so():
    model, data = Encoder(), [torch.randn(16, 32) for _ in range(4)]
    plain = by_name(quantize(model, data))["up"]
    smoothed = quantize(model, data, algorithms=["bn-fold", "smoothquant"])
    assert isinstance(model.up, nn.Linear)
    assert not isinstance(model.up, SmoothedLinear)
    assert (plain.outlier_channels, plain.input_channels) == (1, 32)
    assert "smoothquant" in plain.hint
    up = by_name(smoothed)["up"]
    assert up.outlier_channels == 0
    assert up.output_sqnr_db > plain.output_sqnr_db + 6


def test_what_clips_is_measured_and_named():
    data = [torch.randn(4000, FEATURES)]
    layer = by_name(quantize(mlp(), data, observer={"name": "percentile", "percentile": 90.0}))["0"]
    assert layer.observer == {"name": "percentile", "percentile": 90.0}
    assert layer.saturation_percent == pytest.approx(20, abs=1)
    assert layer.range_used_percent == 100
    assert "is clipped" in layer.hint
    minmax = by_name(quantize(mlp(), data))["0"]
    assert (minmax.observer, minmax.saturation_percent) == ("minmax", 0.0)
    assert 60 < minmax.range_used_percent < 95


def test_what_is_chosen_for_a_layer_stands_in_its_record():
    result = quantize(
        mlp(), rows(), overrides={"0": {"observer": "mse"}, "2": {"scheme": "int8-weight-only"}}, kernel="reference"
    )
    first, last = result.layers
    assert (first.scheme, first.observer, first.kernels) == ("int8-static", "mse", ("reference",))
    assert first.input == "uint8 asymmetric per-tensor"
    assert (last.scheme, last.observer, last.input) == ("int8-weight-only", None, None)
    assert (last.saturation_percent, last.outlier_channels) == (None, None)
    entry = next(entry for entry in result.plan.entries if entry.name == "0")
    assert (first.float_bytes, first.quantized_bytes) == (entry.parameter_bytes, entry.bytes_after)
    assert first.weight_sqnr_db == result.validation.layer_sqnr_db["0"]


class Mixed(nn.Module):
    """Attention, a recurrent layer and one that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(FEATURES, 2, batch_first=True)
        self.lstm, self.twice = nn.LSTM(FEATURES, FEATURES, batch_first=True), nn.Linear(FEATURES, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x, x, x)[0]
        y, _ = self.lstm(x)
        return self.twice(self.twice(y).relu())


@pytest.mark.parametrize("scheme", ["int8-static", "int8-dynamic", "int8-weight-only", "float16"])
def test_layers_of_many_kinds_are_measured_each_by_itself(scheme: str):
    layers = by_name(quantize(Mixed(), [torch.randn(4, 5, FEATURES) for _ in range(3)], scheme=scheme))
    for name, layer in layers.items():
        is_inside = name == "attention.out_proj"
        assert (layer.output_sqnr_db is None) == is_inside
        assert is_inside or layer.output_sqnr_db > 25
    assert layers["twice"].output_sqnr_db is not None


def test_encoders_are_measured_beside_their_fast_paths():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    layers = by_name(quantize(nn.TransformerEncoder(layer, 2), [torch.randn(4, 6, 16) for _ in range(3)]))
    assert sum(layer.output_sqnr_db is not None for layer in layers.values()) == 6  # all but the two inside attention


def test_layers_that_share_a_weight_are_measured():
    assert all(layer.output_sqnr_db is not None for layer in quantize(Tied(), tokens()).layers)


@pytest.mark.parametrize("scheme", ["int8-dynamic", "int4-weight-only"])
def test_without_data_only_what_is_known_is_told(scheme: str):
    model = nn.Sequential(nn.Linear(128, 128), nn.Linear(128, 128))
    for layer in quantize(model, None, scheme=scheme).layers:
        assert layer.weight_sqnr_db is not None
        assert (layer.output_sqnr_db, layer.outlier_channels, layer.hint) == (None, None, "")


def test_without_checks_nothing_is_run():
    result = quantize(mlp(), rows(), validators=())
    assert [layer.name for layer in result.layers] == ["0", "2"]
    assert all(layer.output_sqnr_db is None and layer.weight_sqnr_db is None for layer in result.layers)


def test_a_run_in_place_tells_the_same():
    model, data = mlp(), rows()
    apart, inside = (quantize(model, data, inplace=where, kernel="reference") for where in (False, True))
    assert apart.layers == inside.layers


def test_the_model_and_its_mode_stay_and_no_hook_is_left():
    model = nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.BatchNorm1d(FEATURES), nn.Dropout(0.5)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    quantize(model, rows())
    assert all(module.training for module in model.modules())
    assert all(not module._forward_hooks for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def beside(quantized: nn.Module) -> dict[str, Any]:
    """What comes of a float layer's call beside another one."""
    layer, x = mlp()[0], rows()[0]
    hook = _Beside(Quantizer().plan(mlp()).layers["0"], None, quantized)
    with torch.no_grad():
        hook(layer, (x,), {}, layer(x))
    return hook.figures


def test_a_quantized_layer_is_run_without_the_users_hooks():
    quantized, calls = mlp()[0], []
    quantized.register_forward_hook(lambda *_: calls.append(1))
    assert beside(quantized)["output_sqnr_db"] is not None
    assert not calls


def test_a_layer_that_cannot_be_run_once_more_has_no_figures_and_ends_nothing():
    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError(f"not with {x.shape}")

    figures = beside(Failing())
    assert (figures["output_sqnr_db"], figures["shift_percent"]) == (None, None)
    assert figures["input_channels"] == FEATURES


def test_a_target_leaves_the_observers_that_it_chose_in_the_records():
    model, data = Encoder(), [torch.randn(16, 32) for _ in range(4)]
    plain = quantize(model, data).info.sqnr_db
    target = MinSQNR(plain + 3)
    result = Quantizer(target=target, show_progress=False).quantize(model, data)
    assert {layer.name for layer in result.layers} == set(result.plan.layers)
    for layer in result.layers:
        assert layer.scheme == result.plan.layers[layer.name].scheme


@pytest.mark.parametrize("make", [mlp, ConvNet])
def test_the_quantized_layers_give_the_same_as_before_they_were_measured(make: Callable[[], nn.Module]):
    model, data = make(), rows() if make is mlp else images()
    measured, not_measured = (
        quantize(model, data, kernel="reference", validators=checks).model(data[1]) for checks in (("size",), ())
    )
    assert torch.equal(torch.as_tensor(measured), torch.as_tensor(not_measured))


class Ragged(nn.Module):
    """A linear layer that is given a nested tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(FEATURES, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        return torch.nested.to_padded_tensor(self.inner(torch.nested.nested_tensor([x[:2], x[2:]])), 0.0)


class Sparse(Ragged):
    """One that is given a sparse tensor."""

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.to_sparse())


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("kind", [Ragged, Sparse])
def test_tensors_of_other_layouts_have_no_figures_and_end_nothing(kind: type[nn.Module]):
    model, x = kind(), rows()[0]
    hook = _Beside(Quantizer("int8-dynamic").plan(model).layers["inner"], None, nn.Linear(FEATURES, FEATURES))
    model.inner.register_forward_hook(hook, with_kwargs=True)
    with torch.no_grad():
        model(x)
    assert "input_channels" not in hook.figures
    assert kind is Sparse or hook.figures["output_sqnr_db"] is None


def test_an_input_with_a_scale_for_each_channel_has_no_share_of_one_range():
    model, x = mlp(), rows()[0]
    plan = Quantizer().plan(model).layers["0"]
    spec = TensorSpec(dtype="uint8", symmetric=False, granularity="per-channel(1)")
    quantized = quantize(model, rows(), kernel="reference").model[0]
    hook = _Beside(attrs.evolve(plan, input=spec), None, quantized)
    with torch.no_grad():
        hook(model[0], (x,), {}, model[0](x))
    assert hook.figures["output_sqnr_db"] is not None
    assert (hook.figures["saturation_percent"], hook.figures["input_channels"]) == (None, FEATURES)


def test_layers_that_share_a_weight_are_not_sent_to_algorithms_that_leave_them():
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x).relu())

    scheme = {"name": "int4-weight-only", "group_size": 8}
    for layer in quantize(Pair(), [torch.randn(64, 8)], scheme=scheme).layers:
        assert layer.hint == "few bits for its weights: use smaller groups or more bits there"
    alone = quantize(nn.Sequential(nn.Linear(8, 8)), [torch.randn(64, 8)], scheme=scheme).layers[0]
    assert "'gptq'" in alone.hint
