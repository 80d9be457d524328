"""The built-in schemes."""

from mono_quant.core.schemes.int8 import Int8Dynamic, Int8Static
from mono_quant.core.schemes.weight_only import (
    BFloat16,
    Float8WeightOnly,
    Float16,
    Int2WeightOnly,
    Int3WeightOnly,
    Int4WeightOnly,
    Int5WeightOnly,
    Int6WeightOnly,
    Int7WeightOnly,
    Int8WeightOnly,
)

__all__ = [
    "BFloat16",
    "Float8WeightOnly",
    "Float16",
    "Int2WeightOnly",
    "Int3WeightOnly",
    "Int4WeightOnly",
    "Int5WeightOnly",
    "Int6WeightOnly",
    "Int7WeightOnly",
    "Int8Dynamic",
    "Int8Static",
    "Int8WeightOnly",
]
