"""Doing a unit of work: reading, quantizing, writing."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from mono_quant.errors import ArtifactError, UnsupportedLayerError
from mono_quant.io.checkpoint import TensorInfo
from mono_quant.io.checkpoint.blocks import write_tensor
from mono_quant.plugin_api import FolderFormat, WeightSpec
from mono_quant.streaming.piece import Piece, Unit
from mono_quant.streaming.reader import RowReader
from mono_quant.streaming.rows import BLOCK_ELEMENTS, encoded_rows

__all__ = ["do_unit"]


def do_unit(unit: Unit, file_format: FolderFormat | None) -> None:
    """Write all that the unit's tensors become; done twice, it writes the same.

    Args:
        unit: with files that are there and have their size.
        file_format: makes the tensors of a whole weight; None stores them as a `WeightSpec` says, some rows at a time.

    Raises:
        ArtifactError: when a file cannot be read or written, or the format gives other tensors than it announced.
        UnsupportedLayerError: when a weight is not finite.
    """
    with RowReader() as reader, ExitStack() as stack:
        files: dict[Path, BinaryIO] = {}
        for piece in unit.pieces:
            with _naming(piece):
                for path in {place.path for place in piece.targets.values()} - set(files):
                    files[path] = stack.enter_context(path.open("r+b"))
                _do(piece, file_format, reader, files)
                for file in files.values():
                    file.flush()


def _do(piece: Piece, file_format: FolderFormat | None, reader: RowReader, files: Mapping[Path, BinaryIO]) -> None:
    if piece.spec is None:
        for start, block in _blocks(piece, reader):
            _write(piece, {piece.name: block}, start, files)
    elif file_format is None:
        for start, stored in encoded_rows(piece, piece.spec, reader):
            _write(piece, {piece.name + suffix: tensor for suffix, tensor in stored.items()}, start, files)
    else:
        tensors = file_format.encode(piece.name, _whole(piece, piece.spec, reader), piece.spec)
        announced = {name: place.info for name, place in piece.targets.items()}
        if {name: TensorInfo.of(tensor) for name, tensor in tensors.items()} != announced:
            raise ArtifactError(
                f"the format {type(file_format).__name__} made {_listed(tensors)} of it, and announced "
                f"{', '.join(f'{name} {info}' for name, info in announced.items())}"
            )
        _write(piece, tensors, 0, files)


def _blocks(piece: Piece, reader: RowReader) -> Iterator[tuple[int, Tensor]]:
    first, last = piece.rows
    for start in range(first, last, BLOCK_ELEMENTS):
        yield start, reader.rows(piece.source, start, min(start + BLOCK_ELEMENTS, last))


def _whole(piece: Piece, spec: WeightSpec, reader: RowReader) -> dict[str, Tensor]:
    """All rows of the stored tensors."""
    whole: dict[str, Tensor] = {}
    for start, stored in encoded_rows(piece, spec, reader):
        if not whole and {suffix: (t.dtype, tuple(t.shape)) for suffix, t in stored.items()} == spec.layout:
            return stored
        whole = whole or {suffix: torch.empty(shape, dtype=dtype) for suffix, (dtype, shape) in spec.layout.items()}
        for suffix, tensor in stored.items():
            whole[suffix][start : start + len(tensor)] = tensor
    return whole


def _write(piece: Piece, tensors: Mapping[str, Tensor], start: int, files: Mapping[Path, BinaryIO]) -> None:
    for name, tensor in tensors.items():
        place = piece.targets[name]
        file = files[place.path]
        file.seek(place.offset + start * place.row_bytes)
        write_tensor(tensor, file)


def _listed(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {TensorInfo.of(tensor)}" for name, tensor in tensors.items()) or "nothing"


@contextmanager
def _naming(piece: Piece) -> Iterator[None]:
    """What is raised names the tensor and its file."""
    where = f"{piece.source.path}, tensor {piece.name!r}"
    try:
        yield
    except (ArtifactError, UnsupportedLayerError) as error:
        text = str(error)
        is_named = str(piece.source.path) in text and repr(piece.name) in text
        raise type(error)(text if is_named else f"{where}: {text}") from error
    except OSError as error:
        raise ArtifactError(f"what {where} becomes cannot be written: {error}") from error
    except Exception as error:
        error.add_note(f"while {where} was quantized")
        raise
