"""The ``bfloat16`` scheme."""

from mono_quant.core.schemes import BFloat16
from mono_quant.plugin_api import SchemeSpec, hookimpl

__all__ = ["mono_quant_schemes"]


@hookimpl
def mono_quant_schemes() -> list[SchemeSpec]:
    """Announce it."""
    return [
        SchemeSpec(
            name="bfloat16",
            summary="bfloat16 weights; float arithmetic, no data",
            factory=BFloat16,
        )
    ]
