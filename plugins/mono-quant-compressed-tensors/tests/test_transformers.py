"""Folders of ours, read by transformers and by the library compressed-tensors itself."""

import json

import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationConfig, QuantizationScheme
from models import SCHEMES, bert, folder_of, layers_of, llama, output, quantized
from mono_quant import Quantizer
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM

pytestmark = pytest.mark.filterwarnings("ignore")
"""Warnings of the libraries that read are theirs."""

FLOAT_ROUNDING = 1e-5
"""Of logits up to about 1: float32 sums of 48 to 112 products, in another order."""

OWN_RANGES = {"int8-dynamic by token", "mixed"}
"""Cases in which compressed-tensors finds other ranges of inputs than mono_quant: absmax / 127.5 against / 127."""


def made(model, case):
    """By the reference kernels: others round inputs or scales on their way."""
    return quantized(model, **SCHEMES[case], kernel="reference")


def assert_close(read, result):
    torch.testing.assert_close(output(read), output(result.model), rtol=1e-4, atol=FLOAT_ROUNDING)


def difference_in_decibels(expected, actual):
    return 10 * torch.log10(expected.square().sum() / (expected - actual).square().sum())


@pytest.fixture(scope="module", params=SCHEMES)
def written(request, tmp_path_factory):
    model = llama()
    result = made(model, request.param)
    path = folder_of(model, result, tmp_path_factory.mktemp("model") / "folder")
    return request.param, result, path


def test_the_library_decodes_what_our_codes_stand_for(written):
    _, result, path = written
    config = QuantizationConfig.model_validate(json.loads((path / "config.json").read_text())["quantization_config"])
    tensors = load_file(path / "model.safetensors")
    found = set()
    for group in config.config_groups.values():
        compressor = BaseCompressor.get_value_from_registry(group.format)
        for name in group.targets:
            own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
            decoded = compressor.decompress(own, group)["weight"]
            assert torch.equal(decoded, layers_of(result.model)[name].dequantized()), name
            found.add(name)
    assert found == set(layers_of(result.model))


def test_the_format_is_that_which_the_library_infers(written):
    _, _, path = written
    groups = json.loads((path / "config.json").read_text())["quantization_config"]["config_groups"].values()
    for group in groups:
        scheme = QuantizationScheme.model_validate({**group, "format": None})
        classes = [
            BaseCompressor.get_value_from_registry(name)
            for name in ("int-quantized", "pack-quantized", "float-quantized")
        ]
        fits = [c for c in classes if c.can_compress(torch.nn.Linear, scheme)]
        inferred = BaseCompressor.get_value_from_registry(group["format"])
        assert inferred is (fits[0] if fits else BaseCompressor.get_value_from_registry("naive-quantized"))


def test_transformers_runs_it(written):
    case, result, path = written
    read = AutoModelForCausalLM.from_pretrained(path)
    expected, actual = output(result.model), output(read)
    if case in OWN_RANGES:
        assert difference_in_decibels(expected, actual) > 25
    else:
        assert_close(read, result)
    modules = dict(read.named_modules())
    for name, layer in layers_of(result.model).items():
        assert torch.equal(modules[name].weight, layer.dequantized()), name


@pytest.mark.parametrize("case", ["int4 symmetric", "int4", "int8", "float8"])
def test_transformers_runs_bfloat16_models(case, tmp_path):
    model = llama(torch.bfloat16)
    result = made(model, case)
    read = AutoModelForCausalLM.from_pretrained(folder_of(model, result, tmp_path / "model"), dtype=torch.bfloat16)
    expected, actual = output(result.model), output(read)
    assert difference_in_decibels(expected, actual) > 35
    modules = dict(read.named_modules())
    for name, layer in layers_of(result.model).items():
        assert modules[name].weight.dtype == torch.bfloat16
        # Scales are rounded to bfloat16 when they are loaded, half a step of 2^-8, and then the product is again.
        torch.testing.assert_close(modules[name].weight.float(), layer.dequantized(), rtol=2**-7, atol=1e-9)


@pytest.mark.parametrize("case", ["int8-static", "int4 symmetric"])
def test_an_encoder(case, tmp_path):
    model = bert()
    result = made(model, case)
    read = AutoModel.from_pretrained(folder_of(model, result, tmp_path / "model"))
    assert_close(read, result)


def test_tied_weights_stay_tied(tmp_path):
    model = llama(tied=True)
    result = made(model, "int8")
    path = folder_of(model, result, tmp_path / "model")
    assert "lm_head.weight" not in load_file(path / "model.safetensors")
    assert "lm_head" in json.loads((path / "config.json").read_text())["quantization_config"]["ignore"]
    read = AutoModelForCausalLM.from_pretrained(path)
    assert read.lm_head.weight is read.model.embed_tokens.weight
    assert_close(read, result)


def test_shards(tmp_path):
    model = llama()
    result = made(model, "int4")
    path = folder_of(model, result, tmp_path / "model", max_shard_bytes=30_000)
    index = json.loads((path / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    for name, file in index["weight_map"].items():
        if name.endswith("weight_packed"):
            beside = [name.removesuffix("_packed") + suffix for suffix in ("_scale", "_shape", "_zero_point")]
            assert {index["weight_map"][one] for one in beside} == {file}
    assert_close(AutoModelForCausalLM.from_pretrained(path), result)


def test_it_is_written_over_the_float_model(tmp_path):
    model = llama()
    model.save_pretrained(tmp_path / "model")
    before = json.loads((tmp_path / "model" / "config.json").read_text())
    result = made(model, "int8")
    result.save(tmp_path / "model", format="compressed-tensors")
    after = json.loads((tmp_path / "model" / "config.json").read_text())
    assert after.pop("quantization_config")
    assert after == before
    assert (tmp_path / "model" / "generation_config.json").exists()
    assert_close(AutoModelForCausalLM.from_pretrained(tmp_path / "model"), result)


@pytest.mark.parametrize("case", ["int4 symmetric", "int8", "float8"])
def test_a_checkpoint_that_was_quantized_without_its_model(case, tmp_path):
    model = llama()
    model.save_pretrained(tmp_path / "float", max_shard_size="60KB")
    assert len(list((tmp_path / "float").glob("*.safetensors"))) > 1
    quantizer = Quantizer(**SCHEMES[case], exclude=["*embed_tokens"], show_progress=False)
    quantizer.quantize_folder(tmp_path / "float", tmp_path / "codes", format="compressed-tensors", workers=1)
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "codes")
    result = made(model, case)
    assert_close(read, result)
    modules = dict(read.named_modules())
    for name, layer in layers_of(result.model).items():
        assert torch.equal(modules[name].weight, layer.dequantized()), name
