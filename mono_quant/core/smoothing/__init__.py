"""SmoothQuant: making activations easier to quantize at the cost of weights, which bear it."""

from mono_quant.core.smoothing.smoothquant import SmoothQuant

__all__ = ["SmoothQuant"]
