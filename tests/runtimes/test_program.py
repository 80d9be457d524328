"""A quantized model as a graph in which quantized layers are operators with what is stored as their arguments."""

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from mono_quant import Batch, Quantizer
from mono_quant.errors import CompilationError
from mono_quant.runtimes import export_program
from mono_quant.testing.runtime_models import runtime_models

MODELS = runtime_models()


def quantized_of(name: str) -> tuple[nn.Module, Batch]:
    model, scheme, batches = MODELS[name]
    quantizer = Quantizer(scheme, validators=(), show_progress=False)
    return quantizer.quantize(model, batches).model, quantizer.components.batch_of(batches[0])


def operators(program: torch.export.ExportedProgram) -> Counter[str]:
    targets = (str(node.target) for node in program.graph.nodes if node.op == "call_function")
    return Counter(name.split(".")[1] for name in targets if name.startswith("mono_quant."))


@pytest.mark.parametrize("name", MODELS)
def test_the_program_computes_what_the_model_does(name: str):
    model, batch = quantized_of(name)
    program = export_program(model, batch).module()
    with torch.no_grad():
        expected, actual = model(*batch.args, **batch.kwargs), program(*batch.args, **batch.kwargs)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=2e-2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("convolutions", {"quantize": 6, "int8_layer": 6}),
        ("sequences", {"quantize": 5, "int8_layer": 5}),
        ("sequences, dynamic", {"int8_layer": 5}),
        ("sequences, per token", {"int8_layer": 5}),
        ("attention", {"int8_layer": 2}),
        ("sequences, int4 weights", {"dequantize_rows": 1, "dequantize_weight": 5}),
        ("convolutions, int4 weights", {"dequantize_weight": 6}),
        ("sequences, bfloat16 weights", {}),
    ],
)
def test_each_quantized_layer_is_an_operator(name: str, expected: dict[str, int]):
    assert operators(export_program(*quantized_of(name))) == expected


def test_the_codes_and_scales_are_those_that_are_stored():
    model, batch = quantized_of("convolutions")
    program = export_program(model, batch)
    stored = model.state_dict()
    given = {**program.state_dict, **program.constants}
    assert all(torch.equal(given[name], tensor) for name, tensor in stored.items())
    placeholders = program.graph_signature.inputs_to_parameters | program.graph_signature.inputs_to_buffers
    layers = [node for node in program.graph.nodes if "int8_layer" in str(node.target)]
    weights = {placeholders[node.args[1].name] for node in layers}
    assert weights == {name for name in stored if name.endswith(".weight")}


def test_all_axes_are_open_where_the_model_allows_it():
    model, _ = quantized_of("convolutions")
    program = export_program(model, Batch((torch.randn(1, 3, 12, 12),))).module()
    for shape in ((1, 3, 12, 12), (5, 3, 12, 12), (2, 3, 20, 16)):
        x = torch.randn(shape)
        torch.testing.assert_close(program(x), model(x), rtol=1e-4, atol=2e-2)


class LooksAtSizes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * (1 if x.shape[1] == 3 else 2)


def test_an_axis_that_the_model_looks_at_is_fixed():
    quantized = Quantizer(validators=()).quantize(LooksAtSizes().eval(), [torch.randn(2, 3, 4)]).model
    program = export_program(quantized, Batch((torch.randn(2, 3, 4),)))
    (x,) = [node for node in program.graph.nodes if node.name == "x"]
    sizes = x.meta["val"].shape
    assert not isinstance(sizes[0], int)
    assert sizes[1] == 3


class LooksAtValues(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) if float(x.sum()) > 0 else self.linear(-x)


def test_a_model_that_cannot_be_exported_is_an_error_that_names_another_way():
    quantized = Quantizer(validators=()).quantize(LooksAtValues().eval(), [torch.randn(2, 4)]).model
    with pytest.raises(CompilationError, match=r"LooksAtValues cannot be exported .*'torch' and 'torch-compile' need"):
        export_program(quantized, Batch((torch.randn(2, 4),)))


def test_the_model_is_as_it_was_and_runs_its_kernels():
    model, batch = quantized_of("convolutions")
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export_program(model, batch)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    plain = torch.export.export(model.eval(), batch.args, strict=False)
    assert not operators(plain)
