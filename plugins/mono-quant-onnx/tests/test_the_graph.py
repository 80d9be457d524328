"""What the graph holds: standard operators, the stored codes, axes of any size."""

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from mono_quant import Batch, Quantizer
from mono_quant.errors import CompilationError
from mono_quant.runtimes import export_program
from mono_quant.testing.runtime_models import runtime_models
from torch import nn

from mono_quant_onnx.graph import OPSET, checked_file, to_onnx
from mono_quant_onnx.onnxruntime_runtime import OnnxRuntime

MODELS = runtime_models()


def quantized_of(name):
    model, scheme, batches = MODELS[name]
    quantizer = Quantizer(scheme, validators=(), show_progress=False)
    return quantizer.quantize(model, batches).model, quantizer.components.batch_of(batches[0])


def graph_of(name, folder):
    model, batch = quantized_of(name)
    return model, onnx.load(checked_file(to_onnx(export_program(model, batch)), folder))


def constants(graph):
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}


@pytest.mark.parametrize("name", MODELS)
def test_it_is_standard_onnx(name, tmp_path):
    _, made = graph_of(name, tmp_path)
    assert [(one.domain, one.version) for one in made.opset_import] == [("", OPSET)]
    assert {node.domain for node in made.graph.node} == {""}


def test_each_layer_with_a_quantized_input_stands_between_codes(tmp_path):
    _, made = graph_of("convolutions", tmp_path)
    producers = {output: node for node in made.graph.node for output in node.output}
    layers = [node for node in made.graph.node if node.op_type in {"Conv", "Gemm"}]
    assert len(layers) == 6
    for node in layers:
        assert {producers[name].op_type for name in node.input} == {"DequantizeLinear"}
        assert producers[producers[node.input[0]].input[0]].op_type in {"QuantizeLinear", "MaxPool"}
    assert Counter(node.op_type for node in made.graph.node)["QuantizeLinear"] == 6


@pytest.mark.parametrize("name", ["convolutions", "sequences", "sequences, dynamic"])
def test_the_codes_and_scales_are_those_that_are_stored(name, tmp_path):
    model, made = graph_of(name, tmp_path)
    given = [*constants(made.graph).values()]

    def is_there(array):
        return any(
            one.dtype == array.dtype and one.shape == array.shape and np.array_equal(one, array) for one in given
        )

    layers = [module for module in model.modules() if hasattr(module, "input_spec")]
    assert layers
    for layer in layers:
        codes = layer.weight.numpy()
        assert is_there(codes.T if codes.ndim == 2 else codes)
        assert is_there(layer.weight_scale.detach().numpy())
        if layer.input_scale is not None:
            assert is_there(layer.input_scale.numpy())
            assert is_there(layer.input_zero_point.numpy().astype(np.uint8))


def test_int4_weights_take_four_bits(tmp_path):
    model, made = graph_of("sequences, int4 weights", tmp_path)
    int4 = [one for one in made.graph.initializer if one.data_type == onnx.TensorProto.INT4]
    weights = [value for one, value in constants(made.graph).items() if one in {tensor.name for tensor in int4}]
    codes = model.qkv.stored("weight")[""].numpy()
    low, high = (codes & 15).astype(np.int8), (codes >> 4).astype(np.int8)
    expected = np.stack([low, high], axis=-1).reshape(len(codes), -1) - 8
    assert any(np.array_equal(one.astype(np.int8), expected.T) for one in weights)
    assert len(weights) == 2 * 5, "the codes of five layers and their zero points"


def test_a_bias_is_off_by_at_most_half_a_step(tmp_path):
    model, made = graph_of("convolutions", tmp_path)
    given = constants(made.graph)
    by_output = {node.output[0]: node for node in made.graph.node}
    biases = [
        by_output[node.input[2]]
        for node in made.graph.node
        if node.op_type in {"Conv", "Gemm"} and len(node.input) == 3
    ]
    made_float = [given[node.input[0]] * given[node.input[1]].astype(np.float64) for node in biases]
    steps = [given[node.input[1]] for node in biases]
    for layer in (model.stem, model.narrow, model.head):
        bias = layer.bias.detach().numpy()
        assert any(
            one.shape == bias.shape and (np.abs(one - bias) <= 0.501 * step).all()
            for one, step in zip(made_float, steps, strict=True)
        )


def test_axes_have_symbolic_sizes(tmp_path):
    _, made = graph_of("sequences", tmp_path)
    ids, scale = made.graph.input
    sizes = [[axis.dim_param or axis.dim_value for axis in one.type.tensor_type.shape.dim] for one in (ids, scale)]
    assert all(isinstance(size, str) for size in (*sizes[0], *sizes[1]))
    assert sizes[0][0] == sizes[1][0] != sizes[0][1]


class Sorted(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return torch.special.bessel_j0(self.linear(x))


def test_an_operator_that_onnx_has_not_is_named():
    quantized = Quantizer(validators=()).quantize(Sorted().eval(), [torch.randn(2, 4)]).model
    with pytest.raises(CompilationError, match="bessel_j0"):
        OnnxRuntime().compile(quantized, Batch((torch.randn(2, 4),)))
