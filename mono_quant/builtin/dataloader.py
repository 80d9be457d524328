"""The ``dataloader`` source."""

from mono_quant.calibration.sources import DataLoaderSource
from mono_quant.plugin_api import SourceSpec, hookimpl

__all__ = ["mono_quant_sources"]


@hookimpl
def mono_quant_sources() -> list[SourceSpec]:
    """Announce it."""
    return [
        SourceSpec(
            name="dataloader",
            summary="DataLoader, list of tensors or any iterable, streamed",
            factory=DataLoaderSource,
        )
    ]
