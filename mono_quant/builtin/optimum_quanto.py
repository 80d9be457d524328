"""The ``optimum-quanto`` format."""

from mono_quant.io.foreign import OptimumQuantoFormat
from mono_quant.plugin_api import FormatSpec, hookimpl

__all__ = ["mono_quant_formats"]


@hookimpl
def mono_quant_formats() -> list[FormatSpec]:
    """Announce it."""
    return [
        FormatSpec(
            name="optimum-quanto",
            summary="safetensors of optimum-quanto's quantized weights, and their map, for reading",
            factory=OptimumQuantoFormat,
        )
    ]
