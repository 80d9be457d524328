"""A short name for the data that a model was calibrated with."""

import ctypes
import hashlib

from mono_quant.core.tensors import iter_tensors
from mono_quant.plugin_api.source import Batch

__all__ = ["fingerprint"]


def fingerprint(batch: Batch) -> str:
    """SHA-256 over dtype, shape and bytes of the batch's tensors, as hexadecimal text."""
    digest = hashlib.sha256()
    for tensor in iter_tensors((batch.args, batch.kwargs)):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{plain.dtype}{list(plain.shape)}".encode())
        size = plain.numel() * plain.element_size()
        digest.update((ctypes.c_char * size).from_address(plain.data_ptr()) if size else b"")  # no copy, and no NumPy
    return digest.hexdigest()
