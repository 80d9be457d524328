"""Storing a weight, element by element in Python numbers: slow and obvious."""

import math
import struct
from collections.abc import Iterator
from fractions import Fraction
from itertools import product

from torch import Tensor

from mono_quant.core.granularity import PerGroup, PerTensor
from mono_quant.core.tensor_spec import WeightSpec

__all__ = [
    "FLOAT8_VALUES",
    "as_float8",
    "as_float32",
    "as_half",
    "elements",
    "exact_group_scale",
    "exact_stored_code",
    "group_of",
    "packed_row",
]

SMALLEST_NORMAL = 2.0**-126


def packed_row(codes: list[int], bits: int) -> bytes:
    """One big integer, in which code i stands at bit ``i · bits``, as bytes with the lowest first."""
    number = sum(code << (bits * i) for i, code in enumerate(codes))
    return number.to_bytes(math.ceil(len(codes) * bits / 8), "little")


def elements(spec: WeightSpec) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Each index of a weight, the channel that it is in, and its place in that channel."""
    axis = spec.axis % len(spec.shape)
    places: dict[int, int] = {}
    for index in product(*map(range, spec.shape)):
        channel = index[axis]
        yield index, channel, places.setdefault(channel, 0)
        places[channel] += 1


def group_of(spec: WeightSpec, channel: int, place: int) -> tuple[int, ...]:
    """The index of the scale of an element."""
    if isinstance(spec.granularity, PerTensor):
        return ()
    return (channel, place // spec.granularity.size) if isinstance(spec.granularity, PerGroup) else (channel,)


def exact_group_scale(numbers: list[float], spec: WeightSpec) -> Fraction:
    """The step between codes for the numbers that share it, without a floor and without rounding."""
    low, high = Fraction(min(*numbers, 0.0)), Fraction(max(*numbers, 0.0))
    if not spec.symmetric:
        return (high - low) / (2**spec.dtype.bits - 1)
    return max(-low, high) / (448 if spec.dtype.is_float else 2 ** (spec.dtype.bits - 1) - 1)


def exact_stored_code(x: float, scale: float, zero_point: int, spec: WeightSpec) -> float:
    """The code of a number: the quotient rounded to float32, then to the codes, half to even."""
    quotient = as_float32(x / scale)  # rounding to float64 first does no harm: it has over twice the bits
    if spec.dtype.is_float:
        return as_float8(quotient)
    largest = 2 ** (spec.dtype.bits - 1) - 1
    return min(max(round(quotient) + zero_point, -largest - 1), largest)


def as_float32(x: float) -> float:
    """The nearest float32."""
    return struct.unpack("f", struct.pack("f", x))[0]


def as_half(x: float, name: str) -> float:
    """The nearest float16 or bfloat16."""
    if name == "float16":
        return struct.unpack("e", struct.pack("e", x))[0]
    bits = struct.unpack("I", struct.pack("f", x))[0]
    upper, lower = bits >> 16, bits & 0xFFFF
    upper += lower > 0x8000 or (lower == 0x8000 and upper & 1)
    return struct.unpack("f", struct.pack("I", upper << 16))[0]


def _float8_value(bits: int) -> float:
    """E4M3: sign, four exponent bits of bias 7, three mantissa bits; no infinities."""
    exponent, mantissa = bits >> 3, bits & 7
    return mantissa * 2.0**-9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10)


FLOAT8_VALUES = [_float8_value(bits) for bits in range(0x7F)]
"""Those that are not negative, in order; the one after the last stands for NaN."""


def as_float8(x: float) -> float:
    """The nearest E4M3 number, the one of even mantissa where two are as near; the largest beyond that."""
    nearest = min(range(0x7F), key=lambda bits: (abs(FLOAT8_VALUES[bits] - abs(x)), bits & 1))
    return math.copysign(FLOAT8_VALUES[nearest], x)


def numbers_of(tensor: Tensor) -> list[float]:
    """The elements, in order."""
    return tensor.double().flatten().tolist()
