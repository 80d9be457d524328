"""The ``int8-weight-only`` scheme."""

from mono_quant.core.schemes import Int8WeightOnly
from mono_quant.plugin_api import SchemeSpec, hookimpl

__all__ = ["mono_quant_schemes"]


@hookimpl
def mono_quant_schemes() -> list[SchemeSpec]:
    """Announce it."""
    return [
        SchemeSpec(
            name="int8-weight-only",
            summary="8-bit weights, symmetric per output channel; float arithmetic, no data",
            factory=Int8WeightOnly,
        )
    ]
