"""Quantizing a folder as Hugging Face lays it out: any size, in little memory, by several processes, resumable."""

from mono_quant.streaming.folder import FolderRun
from mono_quant.streaming.result import QuantizedFolder

__all__ = ["FolderRun", "QuantizedFolder"]
