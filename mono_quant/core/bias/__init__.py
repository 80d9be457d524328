"""Bias correction: giving back to each output channel what quantization takes from its mean."""

from mono_quant.core.bias.correction import BiasCorrection

__all__ = ["BiasCorrection"]
