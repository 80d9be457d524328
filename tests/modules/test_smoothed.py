"""Linear layers with a factor on their input."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mono_quant import Quantizer, dequantize_model
from mono_quant.modules import QuantizedSmoothedLinear, SmoothedLinear


def layer(*, bias: bool = True) -> tuple[nn.Linear, SmoothedLinear]:
    torch.manual_seed(0)
    linear = nn.Linear(6, 4, bias=bias)
    factor = torch.tensor([1.0, 0.01, 3.0, 1e-3, 20.0, 0.5])
    return linear, SmoothedLinear.of(linear, linear.weight.detach() / factor, factor)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x) * torch.tensor([1.0, 90.0, 1.0, 1.0, 1.0, -70.0])
        return self.second(y) + y[..., :4]


def data() -> list[Tensor]:
    return [torch.randn(9, 6, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]


def quantized(scheme: str = "int8-static") -> nn.Module:
    model = Quantizer(scheme, algorithms=["smoothquant"], show_progress=False).quantize(Net().eval(), data()).model
    assert isinstance(model.second, QuantizedSmoothedLinear)
    return model


@pytest.mark.parametrize("bias", [True, False])
def test_a_smoothed_layer_is_the_function_of_the_layer(bias: bool):  # noqa: FBT001
    linear, smoothed = layer(bias=bias)
    x = torch.randn(2, 3, 6)
    torch.testing.assert_close(smoothed(x), linear(x))
    assert smoothed.training


@pytest.mark.parametrize("scheme", ["int8-static", "int8-dynamic"])
def test_the_quantized_layer_is_the_integer_arithmetic_of_the_product(scheme: str):
    second = quantized(scheme).second
    x = torch.randn(7, 6) * torch.tensor([1.0, 90.0, 1.0, 1.0, 1.0, -70.0])
    product = x * second.input_factor
    if scheme == "int8-static":
        scale, zero_point = float(second.input_scale), int(second.input_zero_point)
    else:
        low, high = min(float(product.min()), 0.0), max(float(product.max()), 0.0)
        scale = float(torch.tensor((high - low) / 255, dtype=torch.float32))
        zero_point = round(-low / scale)
    codes = ((product / scale).round() + zero_point).clamp(0, 255) - zero_point
    exact = (codes.double() @ second.weight.double().T) * scale * second.weight_scale.double() + second.bias.double()
    torch.testing.assert_close(second(x).double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scheme", ["int8-static", "int8-dynamic"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_file_gives_back_the_same_bits(tmp_path: Path, scheme: str, suffix: str):
    quantizer = Quantizer(scheme, algorithms=["smoothquant"], show_progress=False)
    result = quantizer.quantize(Net().eval(), data())
    result.save(tmp_path / f"model{suffix}")
    loaded = quantizer.load(tmp_path / f"model{suffix}", Net)
    assert torch.equal(loaded.second.input_factor, result.model.second.input_factor)
    assert torch.equal(loaded(data()[0]), result.model(data()[0]))


def test_the_factor_stays_float32_when_the_model_becomes_half():
    model = quantized()
    halved = copy.deepcopy(model).half()
    assert halved.second.input_factor.dtype == torch.float32
    assert halved.second(torch.randn(3, 6).half()).dtype == torch.float16


def test_a_factor_that_is_replaced_counts_at_the_next_call():
    second = quantized().second
    x = torch.randn(3, 6)
    before = second(x)
    state = second.state_dict()
    state["input_factor"] = state["input_factor"] * 0.5
    second.load_state_dict(state)
    torch.testing.assert_close(second(x), _with_half_the_input(second, x, before))


def _with_half_the_input(second: nn.Module, x: Tensor, before: Tensor) -> Tensor:
    """What the layer with its old factor gives for half the input."""
    old = copy.deepcopy(second)
    with torch.no_grad():
        old.input_factor.mul_(2)
    assert torch.equal(old(x), before)
    return old(x / 2)


def test_dequantized_it_is_a_plain_layer_of_the_same_function():
    model = quantized()
    restored = dequantize_model(model)
    assert type(restored.second) is nn.Linear
    x = torch.randn(5, 6)
    codes_of = model.second.dequantized() * model.second.input_factor
    torch.testing.assert_close(restored.second(x), nn.functional.linear(x, codes_of, model.second.bias))


def test_torch_compile_gives_the_same_with_no_break():
    model = quantized()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = data()[0]
    torch.testing.assert_close(compiled(x), model(x))


def test_an_exported_program_gives_the_same():
    model = quantized()
    program = torch.export.export(model, (data()[0],))
    torch.testing.assert_close(program.module()(data()[0]), model(data()[0]))


@pytest.mark.parametrize("shape", [(0, 6), (6,), (2, 0, 6), (1, 1, 1, 6)])
def test_inputs_of_any_number_of_axes_are_taken(shape: tuple[int, ...]):
    assert quantized().second(torch.randn(shape)).shape == (*shape[:-1], 4)


def test_an_input_of_another_width_is_refused():
    with pytest.raises(RuntimeError, match=r"expected an input of shape \(\.\.\., 6\), got \[3, 5\]"):
        quantized().second(torch.randn(3, 5))


def with_weights_alone() -> nn.Module:
    scheme = {"name": "int4-weight-only", "group_size": 6}
    model = (
        Quantizer(scheme, algorithms=["awq"], show_progress=False, validators=()).quantize(Net().eval(), data()).model
    )
    assert hasattr(model.second, "input_factor")
    return model


@pytest.mark.parametrize("shape", [(7, 6), (0, 6), (6,), (2, 0, 6), (1, 1, 1, 6)])
@pytest.mark.parametrize("grad", [True, False])
def test_where_the_weight_alone_is_quantized_the_input_is_multiplied_all_the_same(shape: tuple[int, ...], grad: bool):  # noqa: FBT001
    second, x = with_weights_alone().second, torch.randn(shape)
    expected = (x.double() * second.input_factor.double()) @ second.dequantized().double().T + second.bias.double()
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(second(x).double(), expected, rtol=1e-5, atol=1e-5)
    assert grad or not x.numel() or second.kernels_in_use


def test_with_weights_alone_a_file_a_copy_and_the_compiler_give_the_same(tmp_path: Path):
    model, x = with_weights_alone(), data()[0]
    scheme = {"name": "int4-weight-only", "group_size": 6}
    result = Quantizer(scheme, algorithms=["awq"], show_progress=False, validators=()).quantize(Net().eval(), data())
    result.save(tmp_path / "model.safetensors")
    with torch.no_grad():
        expected = model(x)
        assert torch.equal(Quantizer().load(tmp_path / "model.safetensors", Net)(x), expected)
        assert torch.equal(copy.deepcopy(model)(x), expected)
        torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="aot_eager")(x), expected)
        torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), expected)


def test_with_weights_alone_dequantized_it_is_a_plain_layer_of_the_same_function():
    model = with_weights_alone()
    restored = dequantize_model(model)
    assert type(restored.second) is nn.Linear
    assert set(restored.second.state_dict()) == {"weight", "bias"}
    torch.testing.assert_close(restored(data()[0]), model(data()[0]), rtol=1e-5, atol=1e-4)


def test_with_weights_alone_an_input_of_another_width_is_refused():
    second = with_weights_alone().second
    for width in (1, 5):
        with pytest.raises(RuntimeError, match=rf"expected an input of shape \(\.\.\., 6\), got \[3, {width}\]"):
            second(torch.randn(3, width))
