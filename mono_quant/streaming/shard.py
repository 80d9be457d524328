"""The files that are written, laid out before any weight is read, and the work on them in units."""

from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

import attrs

from mono_quant.checkpoint_planning import PlannedCheckpoint
from mono_quant.core.checkpoint_plan import layer_and_parameter
from mono_quant.errors import ConfigurationError
from mono_quant.io.checkpoint import TensorInfo
from mono_quant.io.checkpoint.layout import lay_out
from mono_quant.io.checkpoint.place import Place
from mono_quant.io.checkpoint.shards import assign_shards, name_shards
from mono_quant.plugin_api import FolderFormat, WeightSpec
from mono_quant.streaming.piece import Piece, Unit, as_bytes, is_by_rows

__all__ = ["Shard", "lay_out_shards", "tensors_of"]

_UNIT_BYTES = 2**26
"""Of weights that are read: what is done again at most, by each process, after a run was killed."""


@attrs.frozen(kw_only=True)
class Shard:
    """One file.

    Args:
        part: where it is written, under a hidden name.
        path: the name that it takes when all of the checkpoint is there.
        header: its first bytes.
        tensors: name → what it is, in the order of the checkpoint.
        units: the work.
    """

    part: Path
    path: Path
    header: bytes
    tensors: Mapping[str, TensorInfo]
    units: tuple[Unit, ...]

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.header) + sum(info.nbytes for info in self.tensors.values())


def tensors_of(name: str, planned: PlannedCheckpoint, file_format: FolderFormat | None) -> dict[str, TensorInfo]:
    """The tensors that one of the checkpoint becomes: name → what it is."""
    spec = planned.specs.get(name)
    if spec is None:
        return {name: planned.before[name]}
    if file_format is None:
        return {name + suffix: TensorInfo(dtype, shape) for suffix, (dtype, shape) in spec.layout.items()}
    return {key: TensorInfo(dtype, shape) for key, (dtype, shape) in file_format.layout(name, spec).items()}


def lay_out_shards(
    path: Path,
    places: Mapping[str, Place],
    planned: PlannedCheckpoint,
    *,
    file_format: FolderFormat | None,
    metadata: Mapping[str, str],
    max_shard_bytes: int | None,
) -> tuple[Shard, ...]:
    """The files of a checkpoint, which do not depend on how they are written.

    A layer stands in one file. Without ``max_shard_bytes`` there are as many as were read, and each tensor stays in the
    one where it was, or goes to the first of its layer.

    Args:
        path: of the file when it is one: ``model.safetensors``.
        places: name → where it is read, in the order of the checkpoint, each shared tensor once.
        planned: what becomes of each.
        file_format: gives the tensors of a weight; None for those of its `WeightSpec`.
        metadata: of each file.
        max_shard_bytes: how large a file may be, of more than one layer.

    Raises:
        ArtifactError: when a tensor has no place in safetensors.
        ConfigurationError: when two tensors would have one name, or ``max_shard_bytes`` is not positive.
    """
    after = {name: tensors_of(name, planned, file_format) for name in places}
    _refuse_twice(after)
    if max_shard_bytes is None:
        shards = name_shards(path, _as_before(places))
    else:
        sizes = {name: sum(info.nbytes for info in tensors.values()) for name, tensors in after.items()}
        shards = assign_shards(path, sizes, max_shard_bytes)
    numbers = count()
    laid_out = []
    for file, names in shards.items():
        target = path.with_name(file)
        part = path.with_name(f".{file}.part")
        tensors = {key: info for name in names for key, info in after[name].items()}
        layout = lay_out(tensors, metadata, str(target))
        pieces: list[Piece] = []
        for name in sorted(names, key=lambda name: (places[name].path, places[name].offset)):
            spec = planned.specs.get(name)
            targets = {key: Place(part, layout.offsets[key], info) for key, info in after[name].items()}
            is_whole = spec is not None and (file_format is not None or not is_by_rows(spec))
            pieces += _pieces(name, places[name], spec, targets, is_whole=is_whole)
        units = tuple(Unit(next(numbers), tuple(some)) for some in _in_units(pieces))
        laid_out.append(Shard(part=part, path=target, header=layout.header, tensors=tensors, units=units))
    return tuple(laid_out)


def _as_before(places: Mapping[str, Place]) -> list[list[str]]:
    file_of: dict[str, Path] = {}
    shards: dict[Path, list[str]] = {}
    for name, place in places.items():
        file = file_of.setdefault(layer_and_parameter(name)[0], place.path)
        shards.setdefault(file, []).append(name)
    return list(shards.values())


def _refuse_twice(after: Mapping[str, Mapping[str, TensorInfo]]) -> None:
    made_of: dict[str, str] = {}
    for name, tensors in after.items():
        for key in tensors:
            if made_of.setdefault(key, name) != name:
                raise ConfigurationError(
                    f"{made_of[key]!r} and {name!r} would both become a tensor {key!r}: exclude one of their layers"
                )


def _pieces(
    name: str, source: Place, spec: WeightSpec | None, targets: Mapping[str, Place], *, is_whole: bool
) -> Iterator[Piece]:
    """One piece, or several where rows do not need each other."""
    if spec is None:
        source, targets = as_bytes(source), {key: as_bytes(place) for key, place in targets.items()}
    rows = source.info.shape[0]
    step = max(1, rows if is_whole else _UNIT_BYTES // max(1, source.row_bytes))
    for start in range(0, rows, step):
        yield Piece(name=name, source=source, rows=(start, min(start + step, rows)), spec=spec, targets=targets)


def _in_units(pieces: list[Piece]) -> Iterator[list[Piece]]:
    unit: list[Piece] = []
    for piece in pieces:
        if unit and sum(one.nbytes for one in unit) + piece.nbytes > _UNIT_BYTES:
            yield unit
            unit = []
        unit.append(piece)
    if unit:
        yield unit
