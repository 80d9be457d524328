"""The ``int6-weight-only`` scheme."""

from mono_quant.core.schemes import Int6WeightOnly
from mono_quant.plugin_api import SchemeSpec, hookimpl

__all__ = ["mono_quant_schemes"]


@hookimpl
def mono_quant_schemes() -> list[SchemeSpec]:
    """Announce it."""
    return [
        SchemeSpec(
            name="int6-weight-only",
            summary="6-bit weights, in groups of 128, packed; float arithmetic, no data",
            factory=Int6WeightOnly,
        )
    ]
