"""Half-quadratic quantization: scales and zero points of weights that are rounded without data."""

from mono_quant.core.hqq.hqq import HQQ

__all__ = ["HQQ"]
