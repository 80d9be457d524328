"""The ``weight-range`` validator."""

from mono_quant.io.checks import WeightRangeValidator
from mono_quant.plugin_api import ValidatorSpec, hookimpl

__all__ = ["mono_quant_validators"]


@hookimpl
def mono_quant_validators() -> list[ValidatorSpec]:
    """Announce it."""
    return [
        ValidatorSpec(
            name="weight-range",
            summary="codes, scales and zero points in range",
            factory=WeightRangeValidator,
        )
    ]
