"""The ``int8-dynamic`` scheme."""

from mono_quant.core.schemes import Int8Dynamic
from mono_quant.plugin_api import SchemeSpec, hookimpl

__all__ = ["mono_quant_schemes"]


@hookimpl
def mono_quant_schemes() -> list[SchemeSpec]:
    """Announce it."""
    return [
        SchemeSpec(
            name="int8-dynamic",
            summary="int8 weights per output channel, uint8 inputs by their own range; Linear, no data",
            factory=Int8Dynamic,
        )
    ]
