"""Weights with every code, and scales that blocks hold; and what they become, in plain Python."""

import math
import struct

import numpy as np
import torch
from mono_quant.core.encoding import decode
from mono_quant.core.packing import pack
from mono_quant.plugin_api import Artifact, WeightSpec

BITS_OF_D = 6
"""So few that 31 of them, as the minimum of 5-bit codes may be, are a float16 number too."""


def spec_of(dtype, shape, granularity, *, symmetric):
    return WeightSpec(dtype=dtype, symmetric=symmetric, granularity=granularity, shape=shape)


def manifest_of(spec, layer="fc", **more):
    as_json = {
        "dtype": spec.dtype.name, "symmetric": spec.symmetric, "granularity": str(spec.granularity),
        "is_dynamic": False, "shape": list(spec.shape), "float_dtype": spec.float_dtype,
    }  # fmt: skip
    return {"layers": {layer: {"weights": {"weight": as_json}}}, "metrics": {}, "layer_sqnr_db": {}, **more}


def stored_of(spec, *, seed=0):
    """Random codes, the lowest and highest among them; a scale of 2^-14 times up to 63, or a whole power of two."""
    generator = torch.Generator().manual_seed(seed)
    low, high = spec.dtype.qmin, spec.dtype.qmax
    codes = torch.randint(low, high + 1, (spec.channels, spec.per_channel), generator=generator)
    codes[0, :2] = torch.tensor([low, high])
    layout = spec.layout
    scale = torch.randint(1, 2**BITS_OF_D, layout["_scale"][1], generator=generator) * 2.0**-14
    stored = {"": pack(codes - low, spec.dtype.bits) if spec.dtype.is_packed else codes, "_scale": scale}
    if not spec.symmetric:
        stored["_zero_point"] = torch.randint(low, high + 1, layout["_zero_point"][1], generator=generator)
    return {suffix: stored[suffix].to(dtype).reshape(shape) for suffix, (dtype, shape) in layout.items()}


def artifact_of(spec, stored, **more):
    tensors = {"fc.weight" + suffix: tensor for suffix, tensor in stored.items()}
    return Artifact({**tensors, "fc.bias": torch.arange(float(spec.channels))}, manifest_of(spec, **more))


def floats_of(spec, stored):
    """The weight that they stand for."""
    return decode(stored, spec)


def blocks_of(spec, stored):
    """The bytes of ggml's blocks, number by number: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h."""
    bits = spec.dtype.bits
    packed = stored[""].reshape(spec.channels, -1).tolist()
    content = b""
    for channel in range(spec.channels):
        row = sum(byte << 8 * i for i, byte in enumerate(packed[channel])) if spec.dtype.is_packed else packed[channel]
        for start in range(0, spec.per_channel, 32):
            places = range(start, start + 32)
            group = start // spec.group_size
            index = {0: (), 1: (channel,), 2: (channel, group)}[stored["_scale"].ndim]
            d = stored["_scale"][index].item()
            content += struct.pack("<e", d)
            if not spec.symmetric:
                content += struct.pack("<e", -(stored["_zero_point"][index].item() + 2 ** (bits - 1)) * d)
            if bits == 8:
                content += struct.pack("<32b", *(row[place] for place in places))
                continue
            codes = [row >> place * bits & 2**bits - 1 for place in places]
            if bits == 5:
                content += struct.pack("<I", sum((code >> 4) << i for i, code in enumerate(codes)))
            content += bytes((codes[i] & 15) | (codes[i + 16] & 15) << 4 for i in range(16))
    return content


def nearest_half(value):
    """The nearest float16, by Python's own conversion."""
    return struct.unpack("<e", struct.pack("<e", value))[0]


def is_half(value):
    return math.isfinite(value) and nearest_half(value) == value


def as_bytes(tensor):
    return np.ascontiguousarray(tensor).tobytes()
