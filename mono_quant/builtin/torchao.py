"""The ``torchao`` format."""

from mono_quant.io.foreign import TorchaoFormat
from mono_quant.plugin_api import FormatSpec, hookimpl

__all__ = ["mono_quant_formats"]


@hookimpl
def mono_quant_formats() -> list[FormatSpec]:
    """Announce it."""
    return [
        FormatSpec(
            name="torchao", summary="safetensors of torchao's quantized weights, for reading", factory=TorchaoFormat
        )
    ]
