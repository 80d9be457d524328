"""Quantized layers: plain int8 tensors in, float out, one family a file."""

from mono_quant.modules.base import QuantizedModule
from mono_quant.modules.conv import QuantizedConv1d, QuantizedConv2d, QuantizedConv3d
from mono_quant.modules.linear import QuantizedLinear
from mono_quant.modules.ties import share_tied

__all__ = ["QuantizedConv1d", "QuantizedConv2d", "QuantizedConv3d", "QuantizedLinear", "QuantizedModule", "share_tied"]
