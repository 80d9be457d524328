"""The ``int5-weight-only`` scheme."""

from mono_quant.core.schemes import Int5WeightOnly
from mono_quant.plugin_api import SchemeSpec, hookimpl

__all__ = ["mono_quant_schemes"]


@hookimpl
def mono_quant_schemes() -> list[SchemeSpec]:
    """Announce it."""
    return [
        SchemeSpec(
            name="int5-weight-only",
            summary="5-bit weights, in groups of 128, packed; float arithmetic, no data",
            factory=Int5WeightOnly,
        )
    ]
