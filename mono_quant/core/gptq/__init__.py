"""GPTQ: codes for weights by which the outputs on real inputs, not the weights, come out nearest."""

from mono_quant.core.gptq.gptq import GPTQ

__all__ = ["GPTQ"]
