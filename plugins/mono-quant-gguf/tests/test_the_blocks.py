"""Blocks against plain Python, and weights as gguf's own reader finds them: bit for bit."""

import math

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFReader
from gguf.quants import dequantize
from mono_quant.core.encoding import encode
from mono_quant.core.packing import pack
from mono_quant.core.tensors import same_bits
from mono_quant.errors import ArtifactError
from mono_quant.plugin_api import sqnr_db
from weights import artifact_of, as_bytes, blocks_of, floats_of, is_half, manifest_of, spec_of, stored_of

from mono_quant_gguf import GGUFFormat

SPECS = {
    "Q8_0, groups of 32": (Kind.Q8_0, "int8", (5, 96), "per-group(32)", True),
    "Q8_0, groups of 64, the last shorter": (Kind.Q8_0, "int8", (3, 160), "per-group(64)", True),
    "Q8_0, per channel": (Kind.Q8_0, "int8", (7, 64), "per-channel(0)", True),
    "Q8_0, per tensor": (Kind.Q8_0, "int8", (7, 64), "per-tensor", True),
    "Q8_0, a kernel": (Kind.Q8_0, "int8", (6, 32, 3, 3), "per-channel(0)", True),
    "Q4_0, groups of 32": (Kind.Q4_0, "int4", (5, 96), "per-group(32)", True),
    "Q4_0, per channel": (Kind.Q4_0, "int4", (1, 32), "per-channel(0)", True),
    "Q4_1, groups of 32": (Kind.Q4_1, "int4", (5, 96), "per-group(32)", False),
    "Q4_1, groups of 128, the last shorter": (Kind.Q4_1, "int4", (3, 160), "per-group(128)", False),
    "Q4_1, per tensor": (Kind.Q4_1, "int4", (3, 64), "per-tensor", False),
    "Q4_1, a kernel": (Kind.Q4_1, "int4", (3, 16, 4, 2), "per-group(32)", False),
    "Q5_0, groups of 32": (Kind.Q5_0, "int5", (5, 96), "per-group(32)", True),
    "Q5_1, groups of 64": (Kind.Q5_1, "int5", (5, 128), "per-group(64)", False),
}


def saved(folder, spec, stored, **options):
    path = folder / "model.gguf"
    form, artifact = GGUFFormat(**options), artifact_of(spec, stored)
    assert form.can_store(artifact) == []
    form.save(artifact, path)
    return path


def in_real_reader(path, name="fc.weight"):
    (found,) = (tensor for tensor in GGUFReader(path).tensors if tensor.name == name)
    return found


@pytest.mark.parametrize("name", SPECS)
def test_blocks_are_those_of_plain_python_and_the_reader_finds_our_weights(name, tmp_path):
    kind, dtype, shape, granularity, symmetric = SPECS[name]
    spec = spec_of(dtype, shape, granularity, symmetric=symmetric)
    for seed in range(3):
        stored = stored_of(spec, seed=seed)
        path = saved(tmp_path, spec, stored)
        found = in_real_reader(path)
        assert found.tensor_type == kind
        assert found.shape.tolist() == [spec.per_channel, spec.channels], "dimensions are the other way round"
        assert as_bytes(found.data) == blocks_of(spec, stored)
        read = torch.from_numpy(dequantize(found.data, found.tensor_type))
        assert same_bits(read.reshape(shape), floats_of(spec, stored))
        loaded = GGUFFormat().load(path)
        assert all(same_bits(loaded.tensors["fc.weight" + suffix], tensor) for suffix, tensor in stored.items())
        assert loaded.manifest == manifest_of(spec)
        bias = in_real_reader(path, "fc.bias")
        assert (bias.tensor_type, bias.data.tolist()) == (Kind.F32, list(range(spec.channels)))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("dtype", ["int4", "int5", "int8"])
@pytest.mark.parametrize("code", ["lowest", "highest", "zero"])
def test_weights_of_one_code_are_kept(dtype, code, symmetric, tmp_path):
    if dtype == "int8" and not symmetric:
        return
    spec = spec_of(dtype, (3, 64), "per-group(32)", symmetric=symmetric)
    value = {"lowest": spec.dtype.qmin, "highest": spec.dtype.qmax, "zero": 0}[code]
    stored = stored_of(spec)
    codes = torch.full((3, 64), value)
    stored[""] = pack(codes - spec.dtype.qmin, spec.dtype.bits) if spec.dtype.is_packed else codes.to(torch.int8)
    assert_kept(saved(tmp_path, spec, stored), spec, stored)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("dtype", ["int4", "int5", "int8"])
def test_groups_of_zeros_keep_their_scale_and_zero_point(dtype, symmetric, tmp_path):
    if dtype == "int8" and not symmetric:
        return
    spec = spec_of(dtype, (4, 64), "per-group(32)", symmetric=symmetric)
    weight = torch.randn(4, 64)
    weight[1], weight[2, :32] = 0, 0
    stored = encode(weight, spec)
    assert (stored["_scale"] == torch.finfo(torch.float32).tiny).sum() == 3
    others = stored_of(spec)
    for suffix in set(stored) - {""}:
        stored[suffix] = torch.where(stored["_scale"] < 1e-37, stored[suffix], others[suffix])
    assert_kept(saved(tmp_path, spec, stored), spec, stored)


def assert_kept(path, spec, stored):
    found = in_real_reader(path)
    read = torch.from_numpy(dequantize(found.data, found.tensor_type))
    assert torch.equal(read, floats_of(spec, stored))
    loaded = GGUFFormat().load(path).tensors
    assert all(same_bits(loaded["fc.weight" + suffix], tensor) for suffix, tensor in stored.items())


def test_scales_that_are_no_float16_numbers_are_refused_with_what_to_do(tmp_path):
    spec = spec_of("int8", (4, 64), "per-group(32)", symmetric=True)
    stored = stored_of(spec)
    stored["_scale"][1, 0] *= 1 + 2.0**-12
    stored["_scale"][3, 1] = 7e4
    (reason,) = GGUFFormat().can_store(artifact_of(spec, stored))
    assert reason.startswith("layer 'fc': 2 of 8 scales of fc.weight do not fit blocks")
    assert "round_scales=True" in reason
    with pytest.raises(ArtifactError, match="2 of 8 scales"):
        GGUFFormat().save(artifact_of(spec, stored), tmp_path / "model.gguf")
    assert list(tmp_path.iterdir()) == []


def test_a_minimum_that_is_no_float16_number_is_refused():
    spec = spec_of("int4", (1, 32), "per-group(32)", symmetric=False)
    stored = stored_of(spec)
    stored["_scale"].fill_(2047 * 2.0**-16)  # fits in 11 bits, and three of it do not
    for zero_point, fits in ((-8, True), (-7, True), (-6, True), (-5, False), (0, True), (7, False)):
        stored["_zero_point"].fill_(zero_point)
        assert (GGUFFormat().can_store(artifact_of(spec, stored)) == []) == fits


@pytest.mark.parametrize(
    ("dtype", "symmetric"), [("int8", True), ("int4", True), ("int4", False), ("int5", True), ("int5", False)]
)
def test_scales_are_moved_to_the_nearest_that_fit_when_asked_for(dtype, symmetric, tmp_path):
    spec = spec_of(dtype, (16, 256), "per-group(32)", symmetric=symmetric)
    stored = encode(torch.randn(16, 256) * torch.logspace(-2, 2, 16)[:, None], spec)
    path = saved(tmp_path, spec, stored, round_scales=True)
    loaded = GGUFFormat().load(path)
    same = set(stored) - {"_scale"}
    assert all(torch.equal(loaded.tensors["fc.weight" + suffix], stored[suffix]) for suffix in same)
    scale = loaded.tensors["fc.weight_scale"].flatten().tolist()
    zero_point = stored.get("_zero_point", torch.full((16, 8), -(2 ** (spec.dtype.bits - 1)))).flatten().tolist()
    for found, wanted, point in zip(scale, stored["_scale"].flatten().tolist(), zero_point, strict=True):
        assert found == nearest_with(point + 2 ** (spec.dtype.bits - 1), wanted)
    found = in_real_reader(path)
    read = torch.from_numpy(dequantize(found.data, found.tensor_type))
    assert same_bits(read, floats_of(spec, {**stored, "_scale": loaded.tensors["fc.weight_scale"]}))


def nearest_with(steps, wanted):
    """The nearest float16 whose product with the steps is one: by looking at those around."""
    k, e = math.frexp(wanted)
    near = [math.ldexp(i, e - 11) for i in range(int(k * 2**11) - 32, int(k * 2**11) + 34)]
    fitting = [d for d in near if is_half(d) and is_half(d * steps)]
    return min(fitting, key=lambda d: (abs(d - wanted), -d))


def test_what_moving_scales_did_stands_in_the_manifest(tmp_path):
    spec = spec_of("int4", (16, 256), "per-group(32)", symmetric=False)
    stored = encode(torch.randn(16, 256), spec)
    figures = {"metrics": {"sqnr_db": 20.0, "size": 1}, "layer_sqnr_db": {"fc": 20.0, "other": 30.0}}
    artifact = artifact_of(spec, stored, **figures)
    GGUFFormat(round_scales=True).save(artifact, tmp_path / "model.gguf")
    loaded = GGUFFormat().load(tmp_path / "model.gguf")
    scale, moved = stored["_scale"].double(), loaded.tensors["fc.weight_scale"].double()
    change = ((moved - scale).abs() / scale).max().item()
    assert loaded.manifest["metrics"]["gguf_largest_scale_change"] == pytest.approx(change)
    weights = [floats_of(spec, {**stored, "_scale": one.float()}) for one in (scale, moved)]
    assert loaded.manifest["metrics"]["gguf_rounding_sqnr_db"] == pytest.approx(sqnr_db(*weights), abs=0.06)
    assert loaded.manifest["metrics"]["sqnr_db"] is None
    assert loaded.manifest["metrics"]["size"] == 1
    assert loaded.manifest["layer_sqnr_db"] == {"fc": None, "other": 30.0}
    assert artifact.manifest["layer_sqnr_db"] == figures["layer_sqnr_db"], "the artifact stays as it is"


def test_moved_scales_are_not_moved_again(tmp_path):
    spec = spec_of("int4", (16, 256), "per-group(32)", symmetric=False)
    path = saved(tmp_path, spec, encode(torch.randn(16, 256), spec), round_scales=True)
    loaded = GGUFFormat().load(path)
    for options in ({}, {"round_scales": True}):
        GGUFFormat(**options).save(loaded, tmp_path / "again.gguf")
        assert (tmp_path / "again.gguf").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("scale", [1e-9, 1e-5 * 1.01, 7e4, 3e38])
def test_scales_beyond_float16_are_not_rounded(scale):
    spec = spec_of("int8", (4, 64), "per-channel(0)", symmetric=True)
    stored = stored_of(spec)
    stored["_scale"][2] = scale
    reasons = GGUFFormat(round_scales=True).can_store(artifact_of(spec, stored))
    if scale == 1e-5 * 1.01:
        assert reasons == [], "0.6 % off the nearest"
    else:
        assert [reason for reason in reasons if "1 of 4 scales of fc.weight are too small or too large" in reason]


@pytest.mark.parametrize("suffix", ["", "_scale"])
def test_tensors_that_are_not_as_the_manifest_says_are_refused(suffix):
    spec = spec_of("int8", (4, 64), "per-channel(0)", symmetric=True)
    stored = stored_of(spec)
    stored[suffix] = stored[suffix][:3]
    (reason,) = GGUFFormat().can_store(artifact_of(spec, stored))
    assert f"fc.weight{suffix} must be torch." in reason


@pytest.mark.parametrize(
    "damage", ["scales of a group differ", "scale is negative", "minimum between", "shape", "zero"]
)
def test_blocks_that_no_weight_of_ours_makes_are_refused(damage, tmp_path):
    symmetric = damage != "minimum between"
    spec = spec_of("int4", (4, 64), "per-group(64)", symmetric=symmetric)
    path = saved(tmp_path, spec, stored_of(spec))
    reader = GGUFReader(path, "r+")
    data = in_real_reader_of(reader).data
    d = data.reshape(4, 2, -1)[:, :, :2].view("<f2")
    if damage == "scales of a group differ":
        d[1, 1] *= 2
    elif damage == "scale is negative":
        d[1] = -d[1]
    elif damage == "zero":
        d[0] = 0
    elif damage == "minimum between":
        m = data.reshape(4, 2, -1)[:, :, 2:4].view("<f2")
        m[2] = d[2] * 1.5
    reader.data.flush()
    if damage == "shape":
        text = path.read_bytes()
        assert text.count(b"[4, 64]") == 1
        path.write_bytes(text.replace(b"[4, 64]", b"[8, 32]"))
    with pytest.raises(ArtifactError, match=r"model\.gguf: tensor 'fc\.weight': "):
        GGUFFormat().load(path)


def in_real_reader_of(reader):
    (found,) = (tensor for tensor in reader.tensors if tensor.name == "fc.weight")
    return found


def test_blocks_of_others_are_refused_by_name(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "llama")
    writer.add_tensor("blk.0.ffn", np.zeros((2, 34), np.uint8), raw_dtype=Kind.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ArtifactError, match=r"tensor 'blk\.0\.ffn': it is Q8_0: blocks are read where a manifest"):
        GGUFFormat().load(tmp_path / "other.gguf")


def test_a_key_that_claims_more_than_the_file_has_is_refused_at_once(tmp_path):
    spec = spec_of("int8", (4, 64), "per-channel(0)", symmetric=True)
    path = saved(tmp_path, spec, stored_of(spec), metadata={"a.list": [1, 2, 3]})
    content = path.read_bytes()
    at = content.index(b"a.list") + 6 + 4 + 4
    path.write_bytes(content[:at] + (2**62).to_bytes(8, "little") + content[at + 8 :])
    with pytest.raises(ArtifactError, match="claims more than it has"):
        GGUFFormat().load(path)
