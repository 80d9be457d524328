"""The ``float8-weight-only`` scheme."""

from mono_quant.core.schemes import Float8WeightOnly
from mono_quant.plugin_api import SchemeSpec, hookimpl

__all__ = ["mono_quant_schemes"]


@hookimpl
def mono_quant_schemes() -> list[SchemeSpec]:
    """Announce it."""
    return [
        SchemeSpec(
            name="float8-weight-only",
            summary="float8 e4m3 weights with a scale per output channel; float arithmetic, no data",
            factory=Float8WeightOnly,
        )
    ]
