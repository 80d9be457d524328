"""The ``compressed-tensors`` format: folders that vLLM, transformers and compressed-tensors read."""

from mono_quant import hookimpl
from mono_quant.plugin_api import FormatSpec

from mono_quant_compressed_tensors.format import CompressedTensorsFormat

__all__ = ["CompressedTensorsFormat", "mono_quant_formats"]


@hookimpl
def mono_quant_formats() -> list[FormatSpec]:
    """Announce it."""
    return [
        FormatSpec(
            name="compressed-tensors",
            summary="folders in the layout of compressed-tensors, for vLLM and transformers",
            factory=CompressedTensorsFormat,
        )
    ]
