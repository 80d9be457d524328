"""The ``safetensors`` format."""

from mono_quant.io.safetensors_format import SafetensorsFormat
from mono_quant.plugin_api import FormatSpec, hookimpl

__all__ = ["mono_quant_formats"]


@hookimpl
def mono_quant_formats() -> list[FormatSpec]:
    """Announce it."""
    return [
        FormatSpec(
            name="safetensors",
            summary=".safetensors files",
            factory=SafetensorsFormat,
            suffixes=(".safetensors",),
        )
    ]
