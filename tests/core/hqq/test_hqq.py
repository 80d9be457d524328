"""What ``hqq`` promises of whole layers."""

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from refined_layers import batches, linear, output_error, plain, refined, tensors
from torch import nn

from mono_quant import Quantizer
from mono_quant.core.hqq.hqq import _spread
from mono_quant.core.sqnr import sqnr_db
from mono_quant.errors import ConfigurationError
from mono_quant.result import QuantizationResult


def several() -> nn.Module:
    """A layer of each kind, none of whose inputs are a multiple of the group."""
    torch.manual_seed(0)
    layers = {
        "linear": nn.Linear(100, 24), "conv": nn.Conv2d(6, 12, 3), "transposed": nn.ConvTranspose1d(9, 10, 3),
        "embedding": nn.Embedding(30, 40), "lstm": nn.LSTM(20, 12), "attention": nn.MultiheadAttention(24, 2),
    }  # fmt: skip
    return normal(nn.ModuleDict(layers).eval())


def normal(model: nn.Module) -> nn.Module:
    """With weights as training leaves them, most of them small."""
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def weights_db(model: nn.Module, result: QuantizationResult) -> dict[str, float]:
    """SQNR of every quantized weight."""
    floats, found = dict(model.named_modules()), {}
    for name, layer in result.model.named_modules():
        for weight in getattr(layer, "weight_specs", {}):
            rounded = layer.dequantized(weight)
            found[f"{name}.{weight}"] = sqnr_db(floats[name].get_parameter(weight).detach(), rounded)
    return found


SCHEMES: dict[str, Any] = {
    "int2 in groups": {"name": "int2-weight-only", "group_size": 16, "misfit": "pad"},
    "int3 in groups": {"name": "int3-weight-only", "group_size": 16, "misfit": "pad"},
    "int4 in groups, symmetric": {"name": "int4-weight-only", "group_size": 16, "misfit": "pad", "symmetric": True},
    "int4 by channel": {"name": "int4-weight-only", "granularity": "per-channel"},
    "int5 by tensor": {"name": "int5-weight-only", "granularity": "per-tensor"},
    "int8": "int8-weight-only",
}


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_weights_of_every_kind_of_layer_are_nearer_without_data(scheme: Any):  # noqa: ANN401
    model = several()
    nearest, better = (
        weights_db(model, run) for run in (plain(model, None, scheme), refined("hqq", model, None, scheme, power=1.0))
    )
    assert len(better) == 8
    assert all(better[name] >= nearest[name] for name in nearest)
    assert sum(better[name] > nearest[name] + 0.1 for name in nearest) >= 5


def test_two_bits_for_a_channel_lose_a_third_less():
    model, scheme = normal(linear(128, 32)), {"name": "int2-weight-only", "granularity": "per-channel"}
    data = [torch.randn(64, 128)]
    nearest = output_error(model, plain(model, data, scheme), data)
    assert output_error(model, refined("hqq", model, data, scheme), data) < nearest * 2 / 3


def test_a_weight_of_zero_stays_zero():
    model, scheme = linear(64, 48), {"name": "int3-weight-only", "group_size": 32}
    with torch.no_grad():
        model[0].weight[torch.rand(48, 64) < 0.5] = 0
    rounded = refined("hqq", model, None, scheme).model[0].dequantized()
    assert not rounded[model[0].weight == 0].any()


def test_int8_codes_keep_away_from_what_kernels_do_not_expect():
    model = linear(256, 64)
    with torch.no_grad():
        model[0].weight[:, 0] = -0.2
    result = refined("hqq", model, None, "int8-weight-only")
    assert int(result.model[0].stored("weight")[""].min()) >= -127


@pytest.mark.parametrize("scheme", ["int8-static", "int8-dynamic", "float8-weight-only", "float16"])
def test_other_layers_are_left_as_they_are(scheme: str):
    model, data = linear(), batches()
    expected = tensors(plain(model, data, scheme))
    assert all(
        torch.equal(tensor, expected[name]) for name, tensor in tensors(refined("hqq", model, data, scheme)).items()
    )


def test_a_weight_in_half_precision_is_rounded_as_its_float32_is():
    model, scheme = linear(64, 48), {"name": "int3-weight-only", "group_size": 32}
    half = copy.deepcopy(model).bfloat16()
    expected = tensors(refined("hqq", copy.deepcopy(half).float(), None, scheme))
    found = tensors(refined("hqq", half, None, scheme))
    assert torch.equal(found["0.weight"], expected["0.weight"])
    assert torch.equal(found["0.weight_scale"], expected["0.weight_scale"])


def test_codes_are_chosen_for_its_scales_after_it_and_not_before():
    model, data, scheme = linear(64, 48), batches(64), {"name": "int3-weight-only", "group_size": 32}

    def run(*algorithms: str) -> QuantizationResult:
        return Quantizer(scheme, algorithms=algorithms, validators=(), show_progress=False).quantize(model, data)

    alone, both = run("hqq"), run("hqq", "gptq")
    assert torch.equal(alone.model[0].weight_scale, both.model[0].weight_scale)
    assert output_error(model, both, data) < output_error(model, alone, data) / 2
    with pytest.raises(ConfigurationError, match="name 'hqq' before 'gptq'"):
        run("gptq", "hqq")
    with pytest.raises(ConfigurationError, match="name 'hqq' before 'bias-correction'"):
        run("bias-correction", "hqq")


def test_named_twice_with_other_options_it_goes_on_from_what_it_found():
    model, scheme = normal(linear(64, 48)), {"name": "int2-weight-only", "group_size": 32}
    twice = Quantizer(
        scheme, algorithms=[{"name": "hqq", "steps": 1}, "hqq"], validators=(), show_progress=False
    ).quantize(model)
    once = refined("hqq", model, None, scheme, steps=1)
    assert weights_db(model, twice)["0.weight"] > weights_db(model, once)["0.weight"]


@pytest.mark.parametrize("columns", [1, 96, 1024, 1155])
def test_of_a_large_weight_every_column_has_its_part_in_the_one_scale(columns: int):
    rows = 2**23 // columns
    weight = torch.arange(columns, dtype=torch.int32).expand(rows, columns)
    some = _spread(weight)
    assert 2**19 < some.shape[1] <= 2**20
    assert torch.bincount(some[0], minlength=columns).float().std(correction=0) < 1


def test_one_scale_for_a_large_weight_takes_little_memory_and_is_as_good():
    torch.manual_seed(0)
    weight = torch.randn(2**11, 2**10)
    model = nn.Sequential(nn.Linear(2**10, 2**11, bias=False)).eval()
    model[0].weight.data = weight
    scheme = {"name": "int3-weight-only", "granularity": "per-tensor"}
    result = refined("hqq", model, None, scheme)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mono_quant.core.hqq.hqq._AT_ONCE", 2**30)
        whole = refined("hqq", model, None, scheme)
    assert float(result.model[0].weight_scale) == pytest.approx(float(whole.model[0].weight_scale), rel=0.02)


def test_a_file_has_what_was_found(tmp_path: Path):
    model, scheme = several(), SCHEMES["int3 in groups"]
    quantizer = Quantizer(scheme, algorithms=["hqq"], validators=(), show_progress=False)
    result = quantizer.quantize(model)
    result.save(tmp_path / "model.safetensors")
    loaded = quantizer.load(tmp_path / "model.safetensors", model=several()).state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in tensors(result).items())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *itertools.product(["power"], [0, -1, 1.5, "a", float("nan")]),
        *itertools.product(["steps"], [0, 1.5, True]),
    ],
)
def test_options_that_make_no_sense_are_refused(option: str, value: object):
    with pytest.raises(ConfigurationError, match=option):
        refined("hqq", linear(), None, "int8-weight-only", **{option: value})
