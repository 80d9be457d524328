"""One safetensors file, read by offset.

Mapped, each tensor that was read would stay in the memory of the process until the file is closed.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from mono_quant.errors import ArtifactError
from mono_quant.io.checkpoint.checkpoint import Checkpoint
from mono_quant.io.checkpoint.header import METADATA_KEY, find_fault
from mono_quant.io.checkpoint.tensor_info import DTYPE_CODES, TensorInfo
from mono_quant.io.safetensors_header import read_header

__all__ = ["open_safetensors"]

_DTYPES = {code: dtype for dtype, code in DTYPE_CODES.items()}


def open_safetensors(path: Path) -> Checkpoint:
    """Its tensors in the order in which they lie in the file.

    Raises:
        ArtifactError: naming the file, and the tensor where it is at fault.
    """
    try:
        _, size = read_header(path, METADATA_KEY)
    except (ValueError, OSError) as error:
        raise ArtifactError(f"{path} cannot be read as safetensors: {error}") from error
    with ExitStack() as closing:
        try:
            file = closing.enter_context(safe_open(path, framework="pt", backend="pread"))
        except (SafetensorError, OSError) as error:
            raise ArtifactError(f"{path} cannot be read as safetensors: {error}{find_fault(path)}") from error
        infos = {name: _info(path, name, file) for name in file.offset_keys()}
        return Checkpoint(
            str(path),
            infos,
            reader=file.get_tensor,
            size=size,
            metadata=file.metadata(),
            closing=closing.pop_all(),
        )


def _info(path: Path, name: str, file: Any) -> TensorInfo:  # noqa: ANN401 - the library has no types
    stored = file.get_slice(name)
    code = stored.get_dtype()
    if code not in _DTYPES:
        raise ArtifactError(f"{path}: tensor {name!r} is of dtype {code!r}, which torch does not have")
    return TensorInfo(_DTYPES[code], stored.get_shape())
