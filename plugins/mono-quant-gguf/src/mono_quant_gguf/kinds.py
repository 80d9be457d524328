"""Which of ggml's blocks hold a weight, and why none does."""

from collections.abc import Iterator

import attrs
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from mono_quant.plugin_api import WeightSpec

__all__ = ["BLOCK", "BlockKind", "kind_of", "why_not"]

BLOCK = 32
"""Weights in a block."""


@attrs.frozen
class BlockKind:
    """A type of blocks: 32 neighbours of a row, with a float16 scale d, some with a float16 minimum m.

    A weight is ``d · (u - 2^(bits - 1))`` for an unsigned code u of so many bits, or ``d · u + m``. (Q8_0 stores the
    signed code.)

    Args:
        type: in the file.
        bits: of a code.
        has_minimum: whether there is an m.
    """

    type: GGMLQuantizationType
    bits: int
    has_minimum: bool

    @property
    def type_size(self) -> int:
        """Bytes of a block."""
        return GGML_QUANT_SIZES[self.type][1]

    @property
    def offset(self) -> int:
        """What is added to a signed code to make it unsigned."""
        return 1 << self.bits - 1


_KINDS = {
    (8, True): BlockKind(GGMLQuantizationType.Q8_0, 8, has_minimum=False),
    (5, True): BlockKind(GGMLQuantizationType.Q5_0, 5, has_minimum=False),
    (5, False): BlockKind(GGMLQuantizationType.Q5_1, 5, has_minimum=True),
    (4, True): BlockKind(GGMLQuantizationType.Q4_0, 4, has_minimum=False),
    (4, False): BlockKind(GGMLQuantizationType.Q4_1, 4, has_minimum=True),
}
"""By bits, and whether codes are symmetric."""


def kind_of(spec: WeightSpec) -> BlockKind | None:
    """The blocks that hold a weight; None for one without codes, float16 or bfloat16, which needs none.

    Args:
        spec: nothing that `why_not` refuses.
    """
    return _KINDS[spec.dtype.bits, spec.symmetric] if spec.is_scaled else None


def why_not(spec: WeightSpec) -> str:
    """Why no blocks hold a weight, and what to do; empty when some do."""
    return next(_reasons(spec), "") if spec.is_scaled else ""


def _reasons(spec: WeightSpec) -> Iterator[str]:
    bits, count, size = spec.dtype.bits, spec.per_channel, spec.group_size
    if spec.dtype.is_float:
        yield f"GGUF has no {spec.dtype.name} with a scale; use int8-weight-only, float16 or bfloat16"
    elif (bits, spec.symmetric) not in _KINDS and (bits, True) in _KINDS:
        yield f"{bits}-bit blocks have no zero point; use symmetric=True"
    elif (bits, spec.symmetric) not in _KINDS:
        yield f"blocks have codes of 4, 5 or 8 bits, not {bits}; use int4-, int5- or int8-weight-only"
    if spec.axis % len(spec.shape):
        yield f"its channels run along axis {spec.axis}, those of blocks along the first; keep the layer in float"
    if not spec.channels or not count or count % BLOCK:
        yield f"each channel has {count} weights, which is not a multiple of {BLOCK}; keep the layer in float"
    if size < count and size % BLOCK:
        yield f"groups of {size} are not made of blocks of {BLOCK}; use a group_size that is a multiple"
