"""The ``int8-static`` scheme."""

from mono_quant.core.schemes import Int8Static
from mono_quant.plugin_api import SchemeSpec, hookimpl

__all__ = ["mono_quant_schemes"]


@hookimpl
def mono_quant_schemes() -> list[SchemeSpec]:
    """Announce it."""
    return [
        SchemeSpec(
            name="int8-static",
            summary="int8 weights per output channel, uint8 inputs with calibrated scales",
            factory=Int8Static,
        )
    ]
