"""Checkpoints that other quantizers wrote, as plain tensors that are documented: read where their grids are ours."""

from mono_quant.io.foreign.optimum_quanto import OptimumQuantoFormat
from mono_quant.io.foreign.recognizing import recognized
from mono_quant.io.foreign.torchao import TorchaoFormat

__all__ = ["OptimumQuantoFormat", "TorchaoFormat", "recognized"]
