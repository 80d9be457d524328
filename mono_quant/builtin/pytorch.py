"""The ``pytorch`` format."""

from mono_quant.io.pytorch_format import PytorchFormat
from mono_quant.plugin_api import FormatSpec, hookimpl

__all__ = ["mono_quant_formats"]


@hookimpl
def mono_quant_formats() -> list[FormatSpec]:
    """Announce it."""
    return [
        FormatSpec(
            name="pytorch",
            summary=".pt files of tensors and JSON",
            factory=PytorchFormat,
            suffixes=(".pt", ".pth"),
        )
    ]
