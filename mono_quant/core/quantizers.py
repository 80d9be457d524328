"""Where the earliest interface kept its functions."""

from mono_quant.functional import dynamic_quantize, static_quantize
from mono_quant.info import QuantizationInfo

__all__ = ["QuantizationInfo", "dynamic_quantize", "static_quantize"]
