"""The ``load-run`` validator."""

from mono_quant.io.checks import LoadRunValidator
from mono_quant.plugin_api import ValidatorSpec, hookimpl

__all__ = ["mono_quant_validators"]


@hookimpl
def mono_quant_validators() -> list[ValidatorSpec]:
    """Announce it."""
    return [
        ValidatorSpec(
            name="load-run",
            summary="saved, loaded and run with the same bits",
            factory=LoadRunValidator,
        )
    ]
