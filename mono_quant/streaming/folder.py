"""A folder in, a quantized folder out; what was interrupted is gone on with."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

import attrs

from mono_quant._plugins.components import Components
from mono_quant.calibration.progress import with_progress
from mono_quant.checkpoint_planning import PlannedCheckpoint, plan_checkpoint
from mono_quant.config import QuantizationConfig
from mono_quant.errors import ArtifactError, ConfigurationError
from mono_quant.io.checkpoint import Checkpoint, TensorInfo, open_checkpoint
from mono_quant.io.checkpoint.index import INDEX_SUFFIX, read_index
from mono_quant.io.checkpoint.place import Place, read_places
from mono_quant.io.json_text import dump_object
from mono_quant.io.manifest import write_manifest
from mono_quant.plugin_api import JSON, FolderFormat
from mono_quant.streaming.inputs import InputFolder, look_into
from mono_quant.streaming.journal import Journal
from mono_quant.streaming.pool import do_units, usable_cores
from mono_quant.streaming.publishing import publish
from mono_quant.streaming.result import QuantizedFolder
from mono_quant.streaming.shard import Shard, lay_out_shards, tensors_of

__all__ = ["FolderRun"]

_SUFFIX = ".safetensors"


@attrs.frozen(kw_only=True)
class FolderRun:
    """How a folder is quantized.

    Args:
        components: of the configuration.
        max_shard_bytes: how large a file may be, of more than one layer; None to divide as the input is divided.
        workers: how many processes; None for as many as there are cores.
        show_progress: a bar or not; None shows it on a terminal.
    """

    components: Components
    max_shard_bytes: int | None
    workers: int | None
    show_progress: bool | None

    def __call__(self, in_dir: Path, out_dir: Path) -> QuantizedFolder:
        """Do it.

        Raises:
            ArtifactError: when something cannot be read or written.
            ConfigurationError: when it cannot be meant, or the format cannot hold the layers as they are planned.
            UnsupportedLayerError: when a weight is not finite.
        """
        if self.workers is not None and not (type(self.workers) is int and self.workers >= 1):
            raise ConfigurationError(f"workers must be a whole number of at least 1, got {self.workers!r}")
        inputs = look_into(in_dir)
        _refuse_nested(in_dir, out_dir)
        with open_checkpoint(inputs.weights) as checkpoint:
            fingerprint = inputs.fingerprint()
            planned = plan_checkpoint(checkpoint, self.components)
            places = _places(inputs, checkpoint)
        shards = lay_out_shards(
            out_dir / f"{inputs.stem}.safetensors",
            places,
            planned,
            file_format=self.file_format,
            metadata=self._metadata(planned),
            max_shard_bytes=self.max_shard_bytes,
        )
        config = self._config(inputs, planned)
        journal = Journal(out_dir, self._record(fingerprint, shards, config))
        _refuse_without_room(out_dir, inputs, shards)
        done = _still_there(shards, journal.done)
        journal.begin(done)  # before any file is made: what it says is then never more than there is
        _make_missing(shards)
        todo = [unit for shard in shards for unit in shard.units if unit.number not in done]
        part_of = {unit.number: shard.part for shard in shards for unit in shard.units}
        with closing(do_units(todo, self.file_format, self.workers or usable_cores())) as units:
            for unit in with_progress(
                units, total=len(todo), label="quantizing", show=self.show_progress, unit="part"
            ):  # fmt: skip
                _flush(part_of[unit.number])
                journal.record([unit.number])
        if inputs.fingerprint() != fingerprint:
            raise ArtifactError(f"{in_dir} changed while it was read: remove {out_dir}, and begin anew")
        publish(inputs, shards, config, out_dir)
        journal.remove()
        return QuantizedFolder(
            path=out_dir,
            plan=planned.plan,
            original_size_mb=planned.original_size_mb,
            quantized_size_mb=sum(info.nbytes for shard in shards for info in shard.tensors.values()) / 2**20,
            files=tuple(shard.path.name for shard in shards),
            copied=inputs.copied,
            left_out=inputs.left_out,
            resumed=len(done) / max(1, len(part_of)),
        )

    @property
    def config(self) -> QuantizationConfig:
        """Which layers, and how."""
        return self.components.config

    @property
    def file_format(self) -> FolderFormat | None:
        """Of the output; None for safetensors files with our manifest.

        Raises:
            ConfigurationError: when the configuration names a format of files.
        """
        made, wanted = self.components.wanted_format, self.config.format
        if wanted is not None and not isinstance(made, FolderFormat):
            raise ConfigurationError(f"format {wanted.name!r} writes no folders: name another, or none")
        return made if isinstance(made, FolderFormat) else None

    def _metadata(self, planned: PlannedCheckpoint) -> dict[str, str]:
        """Of each file: our manifest, or the names of shared tensors as safetensors' ``save_model`` writes them."""
        if self.file_format is None:
            manifest = write_manifest(planned.manifest(self.config, self.components.versions))
            return {"format": "pt", "mono_quant": dump_object(manifest)}
        ties = {
            further: first
            for name, kept in planned.plan.ties.items()
            for further, first in zip(
                tensors_of(name, planned, self.file_format), tensors_of(kept, planned, self.file_format), strict=True
            )
        }
        return {**ties, "format": "pt"}

    def _config(self, inputs: InputFolder, planned: PlannedCheckpoint) -> dict[str, JSON] | None:
        """What ``config.json`` is to say; None for none."""
        if self.file_format is None:
            return inputs.config
        kept = {
            name: info.shape
            for name, info in planned.before.items()
            if name not in planned.specs and info.dtype.is_floating_point
        }
        return {**(inputs.config or {}), **self.file_format.config(planned.plan.layers, kept)}

    def _record(
        self, fingerprint: Mapping[str, list[int]], shards: Iterable[Shard], config: Mapping[str, JSON] | None
    ) -> dict[str, object]:
        """What decides the bytes that are written; the keys are words for people."""
        content = [
            [
                shard.path.name,
                hashlib.sha256(shard.header).hexdigest(),
                [[unit.number, [[piece.name, *piece.rows] for piece in unit.pieces]] for unit in shard.units],
            ]
            for shard in shards
        ]
        text = json.dumps([content, config])
        return {
            "options": json.loads(json.dumps(attrs.asdict(self.config), default=str)),
            "max_shard_bytes": self.max_shard_bytes,
            "format": self._who_gives_the_format(),
            "versions": self.components.versions,
            "input files": dict(fingerprint),
            "layout": hashlib.sha256(text.encode()).hexdigest(),
        }

    def _who_gives_the_format(self) -> str:
        wanted = self.config.format
        return "" if wanted is None else str(self.components.manager.formats.get(wanted.name).provider)


def _refuse_nested(in_dir: Path, out_dir: Path) -> None:
    source, target = in_dir.resolve(), out_dir.resolve()
    if source == target:
        raise ConfigurationError(f"{out_dir} is the folder that is read: give another one")
    if source in target.parents or target in source.parents:
        raise ConfigurationError(f"one of {in_dir} and {out_dir} lies in the other: give folders beside each other")
    if out_dir.exists() and not out_dir.is_dir():
        raise ArtifactError(f"{out_dir} is not a folder")
    if not target.parent.is_dir():
        raise ArtifactError(f"{out_dir} cannot be written: its folder {target.parent} does not exist")


def _places(inputs: InputFolder, checkpoint: Checkpoint) -> dict[str, Place]:
    """Where each tensor is read, in the order of the checkpoint."""
    if not inputs.weights.name.endswith(INDEX_SUFFIX):
        return read_places(inputs.weights, dict(checkpoint.infos))
    weight_map = read_index(inputs.weights).weight_map
    by_file: dict[str, dict[str, TensorInfo]] = {}
    for name, info in checkpoint.infos.items():
        by_file.setdefault(weight_map[name], {})[name] = info
    found: dict[str, Place] = {}
    for file, infos in by_file.items():
        found |= read_places(inputs.path / file, infos)
    return {name: found[name] for name in checkpoint.infos}


def _refuse_without_room(out_dir: Path, inputs: InputFolder, shards: Iterable[Shard]) -> None:
    needed = sum((inputs.path / name).stat().st_size for name in inputs.copied)
    for shard in shards:
        there = next((path.stat() for path in (shard.part, shard.path) if path.exists()), None)
        taken = 0 if there is None else getattr(there, "st_blocks", 0) * 512
        needed += max(0, shard.size - taken)
    free = shutil.disk_usage(out_dir).free
    if free < needed:
        raise ArtifactError(f"{out_dir} needs {needed / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free there")


def _still_there(shards: Iterable[Shard], done: set[int]) -> set[int]:
    """The units that are done, in files that are there."""
    return {unit.number for shard in shards if _is_there(shard) for unit in shard.units} & done


def _make_missing(shards: Iterable[Shard]) -> None:
    """Make each file that is not there, in its size."""
    for shard in shards:
        if _is_there(shard):
            continue
        try:
            with shard.part.open("wb") as file:
                file.write(shard.header)
                file.truncate(shard.size)
        except OSError as error:
            raise ArtifactError(f"{shard.part} cannot be written: {error}") from error


def _is_there(shard: Shard) -> bool:
    there = next((path for path in (shard.path, shard.part) if path.exists()), None)
    return there is not None and _is_begun(there, shard)


def _is_begun(path: Path, shard: Shard) -> bool:
    with path.open("rb") as file:
        return path.stat().st_size == shard.size and file.read(len(shard.header)) == shard.header


def _flush(path: Path) -> None:
    try:
        with path.open("r+b") as file:
            os.fsync(file.fileno())
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written: {error}") from error
