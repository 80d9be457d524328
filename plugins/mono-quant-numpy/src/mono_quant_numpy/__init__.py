"""The ``numpy`` source: arrays, mappings of arrays, ``.npy`` and ``.npz`` files."""

from mono_quant import hookimpl
from mono_quant.plugin_api import SourceSpec

from mono_quant_numpy.source import NumpySource

__all__ = ["NumpySource", "mono_quant_sources"]


@hookimpl
def mono_quant_sources() -> list[SourceSpec]:
    """Announce it."""
    return [SourceSpec(name="numpy", summary="NumPy arrays, .npy and .npz files", factory=NumpySource)]
