"""Files of ONNX: what every format of programs promises, and what is in them."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from mono_quant import Quantizer, save_model
from mono_quant.errors import ArtifactError, ConfigurationError
from mono_quant.testing import ProgramFormatSuite
from mono_quant.testing.runtime_models import runtime_models
from torch import nn

import mono_quant_onnx
from mono_quant_onnx.onnx_format import OnnxFormat

WRITES = runtime_models()


class TestOnnx(ProgramFormatSuite):
    suffix = ".onnx"
    least_db = 45.0  # a bias is rounded to a step of the sums; ONNX Runtime quantizes inputs beside int8 weights
    has_tensors = False

    def make(self):
        return OnnxFormat()

    def models(self):  # the graph is that of the runtimes, whose suite tries all models; each export takes seconds
        return {"convolutions": WRITES["convolutions"]}


class TestOnnxWithTensorsBesideIt(TestOnnx):
    def make(self):
        return OnnxFormat(external_data=0)

    def models(self):
        return {"sequences, int4 weights": WRITES["sequences, int4 weights"]}


def quantizer(scheme="int8-static"):
    return Quantizer(scheme, validators=(), show_progress=False, plugins=[mono_quant_onnx])


def quantized(name):
    model, scheme, batches = WRITES[name]
    return quantizer(scheme).quantize(model, batches)


def wide():
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 64))
    return quantizer().quantize(model.eval(), [torch.randn(4, 256)])


def constants(path):
    graph = onnx.load(path).graph
    return {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}, graph


@pytest.mark.parametrize("name", ["convolutions", "sequences"])
def test_codes_scales_and_zero_points_are_those_of_the_model_bit_for_bit(name, tmp_path):
    result = quantized(name)
    result.save(tmp_path / "model.onnx")
    given, graph = constants(tmp_path / "model.onnx")
    constant = [node for node in graph.node if {*node.input} <= {*given} and node.op_type == "DequantizeLinear"]
    weights = [[given[one] for one in node.input] for node in constant]
    quantizing = [node for node in graph.node if node.op_type == "QuantizeLinear"]

    def is_there(codes, scale):
        return any(
            w.dtype == codes.dtype and np.array_equal(w, codes) and np.array_equal(s, scale) and not z.any()
            for w, s, z in weights
        )

    layers = [module for module in result.model.modules() if hasattr(module, "input_spec")]
    assert layers
    inputs = {tuple(given[one].tobytes() for one in node.input[1:]) for node in quantizing}
    for layer in layers:
        codes = layer.weight.numpy()
        assert is_there(codes.T if codes.ndim == 2 else codes, layer.weight_scale.detach().numpy())
        zero_point = layer.input_zero_point.numpy().astype(np.uint8)
        assert (layer.input_scale.numpy().tobytes(), zero_point.tobytes()) in inputs


def test_it_is_standard_and_says_how_it_was_made(tmp_path):
    result = quantized("convolutions")
    result.save(tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert {(one.domain, one.version) for one in graph.opset_import} == {("", 21)}
    assert {node.domain for node in graph.graph.node} == {""}
    written = {one.key: one.value for one in graph.metadata_props}
    assert json.loads(written["mono_quant"])["layers"].keys() == result.plan.layers.keys()
    assert "MatMulInteger" not in Counter(node.op_type for node in graph.graph.node)


def test_it_says_nothing_of_where_it_was_made(tmp_path):
    quantized("sequences").save(tmp_path / "model.onnx")
    content = (tmp_path / "model.onnx").read_bytes()
    assert str(Path(mono_quant_onnx.__file__).parents[4]).encode() not in content
    assert b"site-packages" not in content


def test_large_models_have_their_tensors_beside_them(tmp_path):
    path = tmp_path / "model.onnx"
    result = wide()
    result.save(path, {"name": "onnx", "external_data": 100_000})
    (data,) = tmp_path.glob("model.onnx.*.data")
    assert data.stat().st_size > 150_000
    assert path.stat().st_size < 50_000
    first = quantizer().load(path)(torch.ones(1, 256))
    result.save(path, {"name": "onnx", "external_data": 100_000})
    assert {*tmp_path.iterdir()} == {path, data}, "the same tensors in the same file"
    wide().save(path, {"name": "onnx", "external_data": 100_000})
    (other,) = tmp_path.glob("model.onnx.*.data")
    assert other != data
    assert not torch.equal(quantizer().load(path)(torch.ones(1, 256)), first)
    result.save(path)
    assert {*tmp_path.iterdir()} == {path}
    assert torch.equal(quantizer().load(path)(torch.ones(1, 256)), first)


def test_what_is_written_when_it_is_not_standard_leaves_the_old_model(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    wide().save(path, {"name": "onnx", "external_data": 0})
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def refuse(path, *, full_check):
        del path, full_check
        raise onnx.checker.ValidationError("not standard")

    monkeypatch.setattr(onnx.checker, "check_model", refuse)
    with pytest.raises(ArtifactError, match="no standard ONNX"):
        wide().save(path, {"name": "onnx", "external_data": 0})
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("opset", [18, 22])
def test_another_opset(opset, tmp_path):
    result = wide()
    result.save(tmp_path / "model.onnx", {"name": "onnx", "opset": opset})
    graph = onnx.load(tmp_path / "model.onnx")
    assert [one.version for one in graph.opset_import] == [opset]
    x = torch.randn(3, 256)
    torch.testing.assert_close(quantizer().load(tmp_path / "model.onnx")(x), result.model(x), rtol=1e-3, atol=2e-2)


@pytest.mark.parametrize("options", [{"opset": 17}, {"opset": 19}, {"external_data": -1}, {"opset": "21"}])
def test_options_that_cannot_be_are_refused(options, tmp_path):
    with pytest.raises(ConfigurationError, match=r"opset must be one of 18, 21|external_data must be a number"):
        wide().save(tmp_path / "model.onnx", {"name": "onnx", **options})
    assert [*tmp_path.iterdir()] == []


def test_refusals_name_layers_before_the_work():
    model = WRITES["sequences, int8 weights"][0]
    groups = quantizer({"name": "int4-weight-only", "group_size": 8}).plan(model).layers
    floats = quantizer("float8-weight-only").plan(model).layers
    channels = quantizer("int8-weight-only").plan(model).layers
    assert OnnxFormat().refusals(groups) == {}
    assert OnnxFormat().refusals(floats).keys() == {"tokens"}
    assert "cannot gather rows of float8" in OnnxFormat().refusals(floats)["tokens"]
    assert OnnxFormat(opset=18).refusals(groups).keys() == groups.keys()
    assert "scales of groups need opset 21" in OnnxFormat(opset=18).refusals(groups)["qkv"]
    assert OnnxFormat(opset=18).refusals(floats).keys() == floats.keys()
    assert OnnxFormat(opset=18).refusals(channels) == {}


def test_a_layer_that_is_refused_is_named_when_it_is_written_too(tmp_path):
    model, _, batches = WRITES["sequences, int8 weights"]
    result = quantizer("float8-weight-only").quantize(model, batches)
    with pytest.raises(ArtifactError, match="layer 'tokens' cannot become ONNX: ONNX cannot gather rows of float8"):
        result.save(tmp_path / "model.onnx")
    assert [*tmp_path.iterdir()] == []


def test_the_models_class_cannot_be_filled_from_it(tmp_path):
    wide().save(tmp_path / "model.onnx")
    with pytest.raises(ArtifactError, match="load it without a model"):
        quantizer().load(tmp_path / "model.onnx", nn.Linear(2, 2))


def test_a_graph_of_others_is_refused(tmp_path):
    one = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    two = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [one], [two])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "model.onnx")
    with pytest.raises(ArtifactError, match="was not written by mono_quant"):
        quantizer().load(tmp_path / "model.onnx")


def test_openvino_runs_it_where_it_is_alone(tmp_path, monkeypatch):
    result = quantized("convolutions")
    result.save(tmp_path / "model.onnx")
    monkeypatch.setattr("mono_quant_onnx.onnx_format.find_spec", lambda name: name == "openvino")
    x = torch.randn(3, 3, 12, 12)
    program = quantizer().load(tmp_path / "model.onnx")
    torch.testing.assert_close(program(x), result.model(x), rtol=1e-2, atol=0.1)
    monkeypatch.setattr("mono_quant_onnx.onnx_format.find_spec", lambda _: None)
    with pytest.raises(ArtifactError, match="pip install"):
        quantizer().load(tmp_path / "model.onnx")


def test_it_is_saved_by_name_and_by_a_loaded_model(tmp_path):
    result = quantized("signals")
    result.save(tmp_path / "one.bin", "onnx")
    result.save(tmp_path / "model.safetensors")
    loaded = quantizer().load(tmp_path / "model.safetensors", WRITES["signals"][0])
    save_model(loaded, tmp_path / "another.bin", "onnx", example=WRITES["signals"][2][0])
    assert (tmp_path / "one.bin").read_bytes() == (tmp_path / "another.bin").read_bytes()
