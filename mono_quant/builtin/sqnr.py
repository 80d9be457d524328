"""The ``sqnr`` validator."""

from mono_quant.io.checks import SqnrValidator
from mono_quant.plugin_api import ValidatorSpec, hookimpl

__all__ = ["mono_quant_validators"]


@hookimpl
def mono_quant_validators() -> list[ValidatorSpec]:
    """Announce it."""
    return [
        ValidatorSpec(
            name="sqnr",
            summary="signal-to-quantization-noise ratio of weights and output",
            factory=SqnrValidator,
        )
    ]
