"""Reading and writing large checkpoints one tensor at a time, with no model class."""

from mono_quant.io.checkpoint.checkpoint import Checkpoint
from mono_quant.io.checkpoint.reading import find_checkpoint, open_checkpoint
from mono_quant.io.checkpoint.tensor_info import TensorInfo
from mono_quant.io.checkpoint.writing import write_checkpoint

__all__ = ["Checkpoint", "TensorInfo", "find_checkpoint", "open_checkpoint", "write_checkpoint"]
