"""Cross-layer equalization: channels made alike by numbers that one layer divides by and the next multiplies with."""

from mono_quant.core.equalization.equalization import CrossLayerEqualization

__all__ = ["CrossLayerEqualization"]
