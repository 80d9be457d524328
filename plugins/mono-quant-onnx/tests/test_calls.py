"""Calling a compiled model: like the example, or an error that says what is different."""

import pytest
import torch
from mono_quant import Batch, Quantizer
from mono_quant.errors import CompilationError
from torch import Tensor, nn

from mono_quant_onnx.onnxruntime_runtime import OnnxRuntime
from mono_quant_onnx.openvino_runtime import OpenVinoRuntime

RUNTIMES = [OnnxRuntime(), OpenVinoRuntime(precision="f32")]


class Many(nn.Module):
    """Nested arguments and outputs, with what is no tensor among them."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 4)

    def forward(self, x: Tensor, pair: dict[str, Tensor], *, times: int = 1, mask: Tensor | None = None) -> dict:
        y = self.linear(x + pair["shift"]) * times
        return {"y": y if mask is None else y * mask, "extra": (pair["shift"].sum(), None), "unchanged": x}


@pytest.fixture(params=RUNTIMES, ids=["onnxruntime", "openvino"])
def runtime(request):
    return request.param


def quantized():
    batch = Batch((torch.randn(5, 6), {"shift": torch.randn(5, 6)}), {"times": 2})
    return Quantizer(validators=()).quantize(Many().eval(), [batch]).model, batch


def test_nested_arguments_and_outputs_keep_their_structure(runtime):
    model, batch = quantized()
    compiled = runtime.compile(model, batch)
    expected, actual = model(*batch.args, **batch.kwargs), compiled(*batch.args, **batch.kwargs)
    torch.testing.assert_close(actual["y"], expected["y"], rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(actual["extra"][0], expected["extra"][0])
    assert actual["extra"][1:] == (None,)
    assert torch.equal(actual["unchanged"], batch.args[0])


def test_a_call_with_other_keywords_is_refused(runtime):
    model, batch = quantized()
    compiled = runtime.compile(model, batch)
    with pytest.raises(
        CompilationError, match="compiled for a call with 2 positional arguments and the keywords times"
    ):
        compiled(*batch.args)
    with pytest.raises(CompilationError, match="the keywords times, mask"):
        compiled(*batch.args, times=2, mask=torch.ones(5, 4))


@pytest.mark.parametrize(
    "x",
    [torch.randn(5, 7), torch.randn(5, 1, 6), torch.randn(5, 6, dtype=torch.float64)],
    ids=["size", "axes", "dtype"],
)
def test_an_input_of_another_kind_is_refused_by_name(runtime, x):
    model = Quantizer(validators=()).quantize(nn.Sequential(nn.Linear(6, 4)).eval(), [torch.randn(5, 6)]).model
    compiled = runtime.compile(model, Batch((torch.randn(5, 6),)))
    with pytest.raises(CompilationError, match=r"input 'input' was compiled as torch.float32 of shape \(any, 6\)"):
        compiled(x)


def test_a_number_that_is_part_of_the_graph_is_refused_when_it_changes(runtime):
    model, batch = quantized()
    compiled = runtime.compile(model, batch)
    with pytest.raises(CompilationError, match="'times' is 2 in the compiled model, got 3"):
        compiled(*batch.args, times=3)


class Plain(nn.Module):
    """Positional arguments alone: a tensor, a number, and a tensor that may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 4)

    def forward(self, x: Tensor, times: int, shift: Tensor | None) -> Tensor:
        y = self.linear(x) * times
        return y if shift is None else y + shift


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (([0.0] * 6, 2, None), "input 'x' must be a tensor, got list"),
        ((torch.randn(5, 6), 3, None), "'times' is 2 in the compiled model, got 3"),
        ((torch.randn(5, 6), torch.tensor([2, 2]), None), "'times' is 2 in the compiled model, got tensor"),
        ((torch.randn(5, 6), 2, torch.randn(4)), "'shift' is None in the compiled model, got tensor"),
        ((torch.randn(5, 6).double(), 2, None), "input 'x' was compiled as torch.float32"),
        ((torch.randn(5, 6), 2), "compiled for a call with 3 positional arguments"),
    ],
)
def test_plain_arguments_are_looked_at_one_by_one(runtime, args, words):
    batch = Batch((torch.randn(5, 6), 2, None))
    model = Quantizer(validators=()).quantize(Plain().eval(), [batch]).model
    compiled = runtime.compile(model, batch)
    for rows in (5, 3):
        x = torch.randn(rows, 6)
        torch.testing.assert_close(compiled(x, 2, None), model(x, 2, None), rtol=1e-3, atol=1e-2)
    with pytest.raises(CompilationError, match=words):
        compiled(*args)


def test_it_is_called_with_what_is_not_contiguous_and_has_gradients(runtime):
    model = Quantizer(validators=()).quantize(nn.Sequential(nn.Linear(6, 4)).eval(), [torch.randn(5, 6)]).model
    compiled = runtime.compile(model, Batch((torch.randn(5, 6),)))
    x = torch.randn(6, 5, requires_grad=True).T
    y = compiled(x)
    assert not y.requires_grad
    torch.testing.assert_close(y, model(x.detach()), rtol=1e-3, atol=1e-2)


def test_threads_are_those_that_torch_has(runtime):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = Quantizer(validators=()).quantize(nn.Sequential(nn.Linear(6, 4)).eval(), [torch.randn(5, 6)]).model
        assert runtime.compile(model, Batch((torch.randn(5, 6),))) is not None
    finally:
        torch.set_num_threads(before)


def test_a_precision_that_openvino_has_not_is_refused():
    with pytest.raises(ValueError, match="precision must be"):
        OpenVinoRuntime(precision="int8")


def test_its_precision_is_told():
    model = Quantizer(validators=()).quantize(nn.Sequential(nn.Linear(6, 4)).eval(), [torch.randn(5, 6)]).model
    runtime = OpenVinoRuntime(precision="f32")
    assert runtime.details(runtime.compile(model, Batch((torch.randn(5, 6),)))) == "floats as f32"


def test_openvino_keeps_as_many_shapes_as_it_says():
    model = Quantizer(validators=()).quantize(nn.Sequential(nn.Linear(6, 4)).eval(), [torch.randn(5, 6)]).model
    compiled = OpenVinoRuntime(precision="f32").compile(model, Batch((torch.randn(5, 6),)))
    for rows in (1, 2, 3, 4, 5, 6, 1):
        assert compiled(torch.randn(rows, 6)).shape == (rows, 4)
    assert len(compiled._compiled) == 4


class Writes(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 4)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        return self.linear(x) * self.calls


def test_a_model_that_writes_into_itself_is_refused(runtime):
    model = Quantizer(validators=()).quantize(Writes().eval(), [torch.randn(5, 6)]).model
    with pytest.raises(CompilationError, match="forward writes into 'calls'"):
        runtime.compile(model, Batch((torch.randn(5, 6),)))


def test_a_channel_without_weights_keeps_its_bias(runtime):
    layer = nn.Linear(6, 4)
    with torch.no_grad():
        layer.weight[1] = 0
        layer.bias[:] = torch.tensor([0.1, 5.0, -3.0, 0.0])
    model = Quantizer(validators=()).quantize(nn.Sequential(layer).eval(), [torch.randn(5, 6)]).model
    x = torch.randn(5, 6)
    y = runtime.compile(model, Batch((x,)))(x)
    torch.testing.assert_close(y, model(x), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(y[:, 1], torch.full((5,), 5.0))
