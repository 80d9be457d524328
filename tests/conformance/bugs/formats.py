"""Formats with one bug each."""

import json
import pickle
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from mono_quant.errors import ArtifactError
from mono_quant.io.safetensors_format import SafetensorsFormat
from mono_quant.plugin_api import Artifact, Format
from mono_quant.testing import FormatSuite

FINDS: dict[type[FormatSuite], str] = {}


def planted(test: str) -> Any:
    def wrap(wrong: type[Format]) -> type[Format]:
        members = {
            "suffix": ".safetensors",
            "kills": 20 if "killed" in test else 0,  # which take seconds
            "make": lambda self: wrong(),
            "__module__": __name__,
        }
        suite = type(f"Test{wrong.__name__}", (FormatSuite,), members)
        globals()[suite.__name__] = suite
        FINDS[suite] = test
        return wrong

    return wrap


@planted("test_a_killed_saver_leaves_the_old_or_the_new_file")
class WritesInPlace(SafetensorsFormat):
    def save(self, artifact: Artifact, path: Path) -> None:
        beside = path.with_name("beside.safetensors")
        super().save(artifact, beside)
        content = beside.read_bytes()
        with path.open("wb") as file:
            for start in range(0, len(content), 10_000):
                file.write(content[start : start + 10_000])
                file.flush()
                time.sleep(0.0005)  # so that most kills come while it writes


@planted("test_every_tensor_comes_back_bit_for_bit")
class NarrowsDoubles(SafetensorsFormat):
    def save(self, artifact: Artifact, path: Path) -> None:
        narrow = {n: t.float() if t.dtype == torch.float64 else t for n, t in artifact.tensors.items()}
        super().save(Artifact(narrow, artifact.manifest), path)


@planted("test_every_tensor_comes_back_bit_for_bit")
class MakesNaNsZero(SafetensorsFormat):
    def load(self, path: Path) -> Artifact:
        found = super().load(path)
        return Artifact(
            {n: t.nan_to_num() if t.is_floating_point() else t for n, t in found.tensors.items()}, found.manifest
        )


@planted("test_every_tensor_comes_back_bit_for_bit")
class LosesTheLayout(SafetensorsFormat):
    """Stores the memory of a transposed tensor as it lies."""

    def save(self, artifact: Artifact, path: Path) -> None:
        flat = {
            n: t.as_strided(t.shape, torch.empty(t.shape).stride()) if t.ndim == 2 and not t.is_contiguous() else t
            for n, t in artifact.tensors.items()
        }
        super().save(Artifact(flat, artifact.manifest), path)


@planted("test_an_artifact_without_a_manifest_comes_back_without")
class InventsAManifest(SafetensorsFormat):
    def load(self, path: Path) -> Artifact:
        found = super().load(path)
        return Artifact(found.tensors, found.manifest or {})


@planted("test_the_same_artifact_gives_the_same_bytes")
class StampsTheTime(SafetensorsFormat):
    def save(self, artifact: Artifact, path: Path) -> None:
        super().save(Artifact(artifact.tensors, {**(artifact.manifest or {}), "at": time.time_ns()}), path)


@planted("test_a_pickle_is_never_run")
class Unpickles(Format):
    def can_store(self, artifact: Artifact) -> list[str]:
        return [f"{n} is odd" for n, t in artifact.tensors.items() if t.is_meta or t.is_sparse]

    def save(self, artifact: Artifact, path: Path) -> None:
        path.write_bytes(pickle.dumps((dict(artifact.tensors), artifact.manifest)))

    def load(self, path: Path) -> Artifact:
        try:
            return Artifact(*pickle.loads(path.read_bytes()))
        except Exception as error:
            raise ArtifactError(str(path)) from error


@planted("test_another_file_is_an_error")
class LetsErrorsThrough(SafetensorsFormat):
    def load(self, path: Path) -> Artifact:
        try:
            return super().load(path)
        except ArtifactError as error:
            raise KeyError(path) from error


@planted("test_a_file_that_is_not_there_is_an_error")
class InventsAFile(SafetensorsFormat):
    def load(self, path: Path) -> Artifact:
        return super().load(path) if path.exists() else Artifact({}, None)


@planted("test_what_it_cannot_hold_is_refused_before_anything_is_written")
class PromisesEverything(SafetensorsFormat):
    def can_store(self, artifact: Artifact) -> list[str]:
        return []


@planted("test_what_it_cannot_hold_is_refused_before_anything_is_written")
class DeletesFirst(SafetensorsFormat):
    def save(self, artifact: Artifact, path: Path) -> None:
        path.unlink(missing_ok=True)
        super().save(artifact, path)


@planted("test_what_it_can_hold_has_no_reason_against_it")
class RefusesEverything(SafetensorsFormat):
    def can_store(self, artifact: Artifact) -> list[str]:
        return [f"{name} is not to my liking" for name in artifact.tensors]


@planted("test_a_loaded_tensor_can_be_written_without_changing_the_file")
class SharesTheFile(SafetensorsFormat):
    def load(self, path: Path) -> Artifact:
        found = super().load(path)
        if set(found.tensors) != {"x"}:
            return found
        content = path.read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        shared = torch.from_file(str(path), shared=True, size=len(content), dtype=torch.uint8)
        return Artifact({"x": shared[start:].view(torch.float32)}, found.manifest)


@planted("test_a_file_that_is_cut_off_is_an_error")
class FillsUpWithZeros(SafetensorsFormat):
    def load(self, path: Path) -> Artifact:
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        try:
            header = json.loads(content[8 : 8 + length])
            size = max(e["data_offsets"][1] for n, e in header.items() if n != "__metadata__")
        except (ValueError, AttributeError, KeyError):
            return super().load(path)
        path.write_bytes(content.ljust(8 + length + size, b"\0"))
        return super().load(path)


@planted("test_a_folder_that_is_not_there_is_an_error")
class MakesFolders(SafetensorsFormat):
    def save(self, artifact: Artifact, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        super().save(artifact, path)


@planted("test_saving_changes_nothing")
class ScalesBeforeSaving(SafetensorsFormat):
    def save(self, artifact: Artifact, path: Path) -> None:
        for tensor in artifact.tensors.values():
            if tensor.is_floating_point():
                tensor.mul_(2)
        super().save(artifact, path)


@planted("test_a_new_file_has_the_permissions_of_any_new_file")
class KeepsFilesToItsUser(SafetensorsFormat):
    """As the files of `tempfile` are."""

    def save(self, artifact: Artifact, path: Path) -> None:
        is_new = not path.exists()
        super().save(artifact, path)
        if is_new:
            path.chmod(0o600)


@planted("test_a_file_that_is_replaced_keeps_its_permissions")
class GivesEveryFileTheSame(SafetensorsFormat):
    def save(self, artifact: Artifact, path: Path) -> None:
        super().save(artifact, path)
        path.chmod(0o644)


@planted("test_a_folder_in_its_place_is_an_error")
class ReplacesAFolder(SafetensorsFormat):
    def save(self, artifact: Artifact, path: Path) -> None:
        if path.is_dir():
            shutil.rmtree(path)
        super().save(artifact, path)


@planted("test_a_folder_in_its_place_is_an_error")
class RaisesWhatTheSystemSays(SafetensorsFormat):
    def save(self, artifact: Artifact, path: Path) -> None:
        if path.is_dir():
            raise IsADirectoryError(path)
        super().save(artifact, path)


@planted("test_a_folder_in_its_place_is_an_error")
class LeavesItsFileBehind(SafetensorsFormat):
    def save(self, artifact: Artifact, path: Path) -> None:
        if path.is_dir():
            path.with_name("temporary").touch()
        super().save(artifact, path)
