"""The ``int7-weight-only`` scheme."""

from mono_quant.core.schemes import Int7WeightOnly
from mono_quant.plugin_api import SchemeSpec, hookimpl

__all__ = ["mono_quant_schemes"]


@hookimpl
def mono_quant_schemes() -> list[SchemeSpec]:
    """Announce it."""
    return [
        SchemeSpec(
            name="int7-weight-only",
            summary="7-bit weights, in groups of 128, packed; float arithmetic, no data",
            factory=Int7WeightOnly,
        )
    ]
