"""Where the tensors of a safetensors file lie, and the header that says so: the bytes that the library writes."""

import json
from collections.abc import Mapping

import attrs

from mono_quant.errors import ArtifactError
from mono_quant.io.checkpoint.header import METADATA_KEY
from mono_quant.io.checkpoint.tensor_info import DTYPE_CODES, TensorInfo
from mono_quant.io.limits import MOST_DIMENSIONS, MOST_TENSORS, largest_text

__all__ = ["Layout", "lay_out"]

_ALIGNMENT = 8
_LENGTH_BYTES = 8
_RANKS = {dtype: rank for rank, dtype in enumerate(DTYPE_CODES)}


@attrs.frozen
class Layout:
    """A file before its tensors are known.

    Args:
        header: the bytes before the first tensor.
        offsets: name → where the tensor begins in the file, in bytes.
    """

    header: bytes
    offsets: Mapping[str, int]


def lay_out(infos: Mapping[str, TensorInfo], metadata: Mapping[str, str], subject: str) -> Layout:
    """The tensors by dtype, then by name, without gaps; ``metadata`` by key; spaces until the data are aligned.

    Raises:
        ArtifactError: naming what has no place in the format; ``subject`` says of which file.
    """
    _require_storable(infos, metadata, subject)
    entries: dict[str, object] = {METADATA_KEY: dict(sorted(metadata.items()))} if metadata else {}
    begins, position = {}, 0
    for name in sorted(infos, key=lambda name: (_RANKS[infos[name].dtype], name)):
        info = infos[name]
        begins[name], position = position, position + info.nbytes
        entries[name] = {
            "dtype": DTYPE_CODES[info.dtype],
            "shape": info.shape,
            "data_offsets": [begins[name], position],
        }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    padded = text.ljust(-(-len(text) // _ALIGNMENT) * _ALIGNMENT)
    header = len(padded).to_bytes(_LENGTH_BYTES, "little") + padded
    most = largest_text(len(header) + position)
    if len(padded) > most:
        raise ArtifactError(f"{subject} would have a header of {len(padded):,} bytes, and readers stop at {most:,}")
    return Layout(header, {name: len(header) + begin for name, begin in begins.items()})


def _require_storable(infos: Mapping[str, TensorInfo], metadata: Mapping[str, str], subject: str) -> None:
    texts = [*infos, *metadata, *metadata.values()]
    odd = next((text for text in texts if not _is_text(text)), None)
    if odd is not None or METADATA_KEY in infos:
        raise ArtifactError(
            f"{subject} cannot have {METADATA_KEY if odd is None else odd!r} as a name or in its metadata"
        )
    if len(infos) > MOST_TENSORS:
        raise ArtifactError(f"{subject} cannot hold {len(infos):,} tensors, only {MOST_TENSORS:,}: write several files")
    for name, info in infos.items():
        if info.dtype not in _RANKS:
            raise ArtifactError(f"{subject} cannot hold tensor {name!r}: {info.dtype} has no place in safetensors")
        if len(info.shape) > MOST_DIMENSIONS:
            raise ArtifactError(f"{subject} cannot hold tensor {name!r}: it has more than {MOST_DIMENSIONS} dimensions")


def _is_text(value: object) -> bool:
    """Whether it is text that UTF-8 can hold: half of a surrogate pair is not."""
    return isinstance(value, str) and value == value.encode(errors="replace").decode()
