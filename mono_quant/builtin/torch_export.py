"""The ``torch-export`` format."""

from mono_quant.io.torch_export_format import TorchExportFormat
from mono_quant.plugin_api import FormatSpec, hookimpl

__all__ = ["mono_quant_formats"]


@hookimpl
def mono_quant_formats() -> list[FormatSpec]:
    """Announce it."""
    return [
        FormatSpec(
            name="torch-export",
            summary=".pt2 files: programs that run without the model's class",
            factory=TorchExportFormat,
            suffixes=(".pt2",),
        )
    ]
