"""The ``size`` validator."""

from mono_quant.io.checks import SizeValidator
from mono_quant.plugin_api import ValidatorSpec, hookimpl

__all__ = ["mono_quant_validators"]


@hookimpl
def mono_quant_validators() -> list[ValidatorSpec]:
    """Announce it."""
    return [
        ValidatorSpec(
            name="size",
            summary="size before and after",
            factory=SizeValidator,
        )
    ]
