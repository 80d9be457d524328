"""The ``safetensors-sharded`` format."""

from mono_quant.io.sharded_format import ShardedSafetensorsFormat
from mono_quant.plugin_api import FormatSpec, hookimpl

__all__ = ["mono_quant_formats"]


@hookimpl
def mono_quant_formats() -> list[FormatSpec]:
    """Announce it."""
    return [
        FormatSpec(
            name="safetensors-sharded",
            summary="several safetensors files and their index, for reading",
            factory=ShardedSafetensorsFormat,
            suffixes=(".safetensors.index.json",),
        )
    ]
