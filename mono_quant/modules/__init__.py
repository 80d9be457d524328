"""Quantized layers: plain tensors of codes in, float out, one family a file."""

from mono_quant.modules.attention import QuantizedMultiheadAttention
from mono_quant.modules.base import QuantizedModule
from mono_quant.modules.conv import QuantizedConv1d, QuantizedConv2d, QuantizedConv3d
from mono_quant.modules.embedding import BagOfRows, Rows
from mono_quant.modules.fast_paths import leave_fast_paths, without_fast_paths
from mono_quant.modules.handover import find_handovers, hand_over
from mono_quant.modules.kernel_module import KernelModule
from mono_quant.modules.linear import QuantizedLinear
from mono_quant.modules.smoothed import QuantizedSmoothedLinear, SmoothedByKernel, SmoothedLinear
from mono_quant.modules.ties import share_tied
from mono_quant.modules.to_float import to_float
from mono_quant.modules.weight_only import WeightOnly, as_weight_only, name_clash, why_no_subclass
from mono_quant.modules.weight_only_linear import LinearByKernel

__all__ = [
    "BagOfRows",
    "KernelModule",
    "LinearByKernel",
    "QuantizedConv1d",
    "QuantizedConv2d",
    "QuantizedConv3d",
    "QuantizedLinear",
    "QuantizedModule",
    "QuantizedMultiheadAttention",
    "QuantizedSmoothedLinear",
    "Rows",
    "SmoothedByKernel",
    "SmoothedLinear",
    "WeightOnly",
    "as_weight_only",
    "find_handovers",
    "hand_over",
    "leave_fast_paths",
    "name_clash",
    "share_tied",
    "to_float",
    "why_no_subclass",
    "without_fast_paths",
]
