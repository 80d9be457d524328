"""The ``gguf`` format: quantized models in the blocks that ggml knows."""

from mono_quant import hookimpl
from mono_quant.plugin_api import FormatSpec

from mono_quant_gguf.gguf_format import GGUFFormat

__all__ = ["GGUFFormat", "mono_quant_formats"]


@hookimpl
def mono_quant_formats() -> list[FormatSpec]:
    """Announce it."""
    return [
        FormatSpec(
            name="gguf", summary=".gguf files: Q8_0, Q4_0, Q4_1, Q5_0, Q5_1", factory=GGUFFormat, suffixes=(".gguf",)
        )
    ]
