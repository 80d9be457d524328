"""The ``float16`` scheme."""

from mono_quant.core.schemes import Float16
from mono_quant.plugin_api import SchemeSpec, hookimpl

__all__ = ["mono_quant_schemes"]


@hookimpl
def mono_quant_schemes() -> list[SchemeSpec]:
    """Announce it."""
    return [
        SchemeSpec(
            name="float16",
            summary="float16 weights; float arithmetic, no data",
            factory=Float16,
        )
    ]
