"""What every format promises."""

import bz2
import gzip
import io
import lzma
import os
import stat
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from mono_quant.core.tensors import same_bits
from mono_quant.errors import ArtifactError
from mono_quant.plugin_api import Artifact, Format
from mono_quant.quantizer import Quantizer
from mono_quant.testing.data import seeded
from mono_quant.testing.killing import refuse_broken_by_kills
from mono_quant.testing.models import batches, small_net

__all__ = ["FormatSuite"]

_DTYPES = (
    torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.uint8, torch.int16, torch.int32,
    torch.int64, torch.bool,
)  # fmt: skip
"""What the ``state_dict`` of a quantized model is made of."""

_MANIFEST: dict[str, Any] = {
    "version": 1, "text": 'größer ≥ 0 "quoted" \\ \n', "nested": {"list": [1, 2.5, None, True, []], "empty": {}},
    "large": 2**60, "small": 5e-324, "": "an empty key",
}  # fmt: skip


def _zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return file.getvalue()


_WRAPPERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "bz2": bz2.compress,
    "lzma": lzma.compress,
    "zip": _zipped,
}
"""What a pickle may be wrapped in."""

_with_permissions = pytest.mark.skipif(os.name != "posix", reason="files have no modes here")


class FormatSuite(ABC):
    """Derive a test class from it, write `make` and set `suffix`.

    The format must be one that can be pickled and imported: its savers run in processes that are killed.
    """

    suffix: ClassVar[str]
    """A file name ending of the format, with its dot."""

    dtypes: ClassVar[tuple[torch.dtype, ...]] = _DTYPES
    """What it can hold; without these the tensors of a quantized model cannot all be stored."""

    writes: ClassVar[bool] = True
    """Whether it writes files; one that only reads says so in `can_store`, and `example` then makes its files."""

    kills: ClassVar[int] = 20
    """How often a saver is killed."""

    @abstractmethod
    def make(self) -> Format:
        """A new format."""

    def example(self, artifact: Artifact, path: Path) -> None:
        """Write an artifact to a file that the format reads; a format that only reads writes it by other means."""
        self.make().save(artifact, path)

    def test_it_is_a_format(self) -> None:
        assert isinstance(self.make(), Format), "make() must give a mono_quant.plugin_api.Format"

    def test_every_tensor_comes_back_bit_for_bit(self, tmp_path: Path) -> None:
        artifact = Artifact(self._tensors(), _MANIFEST)
        self._assert_stored(artifact, self._saved(artifact, tmp_path))

    def test_an_artifact_without_a_manifest_comes_back_without(self, tmp_path: Path) -> None:
        artifact = Artifact({"x": torch.ones(2)}, None)
        self._assert_stored(artifact, self._saved(artifact, tmp_path))

    def test_one_tensor_and_many_tensors_come_back(self, tmp_path: Path) -> None:
        for count in (1, 300):
            tensors = {f"layers.{i}.weight": torch.full((i % 5,), i, dtype=torch.int16) for i in range(count)}
            self._assert_stored(Artifact(tensors, {}), self._saved(Artifact(tensors, {}), tmp_path))

    def test_an_existing_file_is_replaced(self, tmp_path: Path) -> None:
        for value in (1.0, 2.0):
            artifact = Artifact({"x": torch.full((5,), value)}, {"value": value})
            self._assert_stored(artifact, self._saved(artifact, tmp_path))

    def test_saving_changes_nothing(self, tmp_path: Path) -> None:
        if not self.writes:
            return
        tensors = self._tensors()
        before = {name: tensor.clone() for name, tensor in tensors.items()}
        self.make().save(Artifact(tensors, _MANIFEST), tmp_path / f"model{self.suffix}")
        assert all(same_bits(before[name], tensor) for name, tensor in tensors.items()), "save() changed a tensor"

    def test_the_same_artifact_gives_the_same_bytes(self, tmp_path: Path) -> None:
        if not self.writes:
            return
        for name in ("one", "another"):
            self.make().save(Artifact(self._tensors(), _MANIFEST), tmp_path / f"{name}{self.suffix}")
        one, other = ((tmp_path / f"{name}{self.suffix}").read_bytes() for name in ("one", "another"))
        assert one == other, "the same tensors and manifest give different bytes, by the place or time of writing"

    def test_a_loaded_artifact_outlives_its_file(self, tmp_path: Path) -> None:
        artifact = Artifact(self._tensors(), {})
        path = self._saved(artifact, tmp_path)
        loaded = self.make().load(path)
        path.unlink()
        assert _same_tensors(artifact, loaded), "tensors changed when the file was removed"

    def test_a_loaded_tensor_can_be_written_without_changing_the_file(self, tmp_path: Path) -> None:
        path = self._saved(Artifact({"x": torch.ones(1000)}, {}), tmp_path)
        before = path.read_bytes()
        self.make().load(path).tensors["x"].zero_()
        assert path.read_bytes() == before, "writing into a loaded tensor wrote into the file"

    @pytest.mark.parametrize("kind", ["sparse", "meta"])
    def test_what_it_cannot_hold_is_refused_before_anything_is_written(self, kind: str, tmp_path: Path) -> None:
        odd = torch.eye(2).to_sparse() if kind == "sparse" else torch.empty(2, device="meta")
        artifact = Artifact({"fine": torch.ones(2), "the.odd.one": odd}, {})
        reasons = self.make().can_store(artifact)
        assert reasons, f"can_store() must say why a {kind} tensor cannot be stored"
        named = any("the.odd.one" in reason for reason in reasons)
        assert named or not self.writes, "the reason must name the tensor"
        path = tmp_path / f"model{self.suffix}"
        path.write_bytes(b"the old file")
        with pytest.raises(Exception):  # noqa: B017, PT011 - whichever: users are told what can_store() says
            self.make().save(artifact, path)
        assert path.read_bytes() == b"the old file", "a refused save() touched the old file"
        assert list(tmp_path.iterdir()) == [path], "a refused save() left a file behind"

    def test_what_it_can_hold_has_no_reason_against_it(self) -> None:
        if self.writes:
            assert self.make().can_store(Artifact(self._tensors(), _MANIFEST)) == []
        else:
            assert self.make().can_store(Artifact({}, {})), "a format that does not write must say so in can_store()"

    def test_a_folder_that_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        if self.writes:
            with pytest.raises(ArtifactError):
                self.make().save(Artifact({"x": torch.ones(2)}, {}), tmp_path / "nowhere" / f"model{self.suffix}")
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_in_its_place_is_an_error(self, tmp_path: Path) -> None:
        path = tmp_path / f"model{self.suffix}"
        path.mkdir()
        with pytest.raises(ArtifactError):
            self.make().load(path)
        if self.writes:
            with pytest.raises(ArtifactError):
                self.make().save(Artifact({"x": torch.ones(2)}, {}), path)
        assert list(tmp_path.rglob("*")) == [path], "a save() that cannot be removed the folder, or left a file behind"

    @_with_permissions
    @pytest.mark.parametrize("umask", [0o022, 0o027], ids=oct)
    def test_a_new_file_has_the_permissions_of_any_new_file(self, umask: int, tmp_path: Path) -> None:
        if not self.writes:
            return
        before = os.umask(umask)
        try:
            path = self._saved(Artifact({"x": torch.ones(2)}, {}), tmp_path)
        finally:
            left = os.umask(before)
        assert left == umask, "save() changed the umask of the process"
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == 0o666 & ~umask, (
            f"with umask {umask:03o} a new file has mode {mode:03o}, not {0o666 & ~umask:03o}"
        )

    @_with_permissions
    def test_a_file_that_is_replaced_keeps_its_permissions(self, tmp_path: Path) -> None:
        if not self.writes:
            return
        path = self._saved(Artifact({"x": torch.ones(2)}, {}), tmp_path)
        for kept in (0o600, 0o664):
            path.chmod(kept)
            self._saved(Artifact({"x": torch.zeros(2)}, {}), tmp_path)
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == kept, f"a file of mode {kept:03o} that was replaced has mode {mode:03o}"

    def test_a_file_that_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ArtifactError):
            self.make().load(tmp_path / f"model{self.suffix}")

    @pytest.mark.parametrize(
        "content", [b"", b"\0", b"not a model\n" * 50, b"\xff" * 500, b"{}", b"PK\3\4" + b"\0" * 40]
    )
    def test_another_file_is_an_error(self, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / f"model{self.suffix}"
        path.write_bytes(content)
        with pytest.raises(ArtifactError):
            self.make().load(path)

    def test_a_file_that_is_cut_off_is_an_error(self, tmp_path: Path) -> None:
        whole = self._saved(Artifact(self._tensors(), _MANIFEST), tmp_path).read_bytes()
        path = tmp_path / f"cut{self.suffix}"
        for share in (1, 10, 50, 90, 99):
            path.write_bytes(whole[: len(whole) * share // 100])
            with pytest.raises(ArtifactError):
                self.make().load(path)
        path.write_bytes(whole[:-1])
        with pytest.raises(ArtifactError):
            self.make().load(path)

    @pytest.mark.parametrize("wrapped", _WRAPPERS.values(), ids=_WRAPPERS)
    def test_a_pickle_is_never_run(self, wrapped: Callable[[bytes], bytes], tmp_path: Path) -> None:
        path, trace = tmp_path / f"model{self.suffix}", tmp_path / "ran"
        code = f"cposix\nsystem\n(S'touch {trace}'\ntR."  # what pickle.loads would run as a shell command
        path.write_bytes(wrapped(code.encode()))
        with pytest.raises(ArtifactError):
            self.make().load(path)
        assert not trace.exists(), "load() ran code that was in the file"

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no SIGKILL here")
    def test_a_killed_saver_leaves_the_old_or_the_new_file(self, tmp_path: Path) -> None:
        if self.writes and self.kills:
            refuse_broken_by_kills(self.make(), tmp_path / f"model{self.suffix}", self.kills)

    def test_a_quantized_model_comes_back(self, tmp_path: Path) -> None:
        model, data = small_net(), batches()
        result = Quantizer(show_progress=False, on_failure="ignore", autoload=False).quantize(model, data)
        result.save(tmp_path / "by-built-in.safetensors")
        state = {name: tensor.detach().clone() for name, tensor in result.model.state_dict().items()}
        artifact = Artifact(state, {"layers": list(state)})
        self._assert_stored(artifact, self._saved(artifact, tmp_path))

    def _tensors(self) -> dict[str, Tensor]:
        made: dict[str, Tensor] = {}
        for dtype in self.dtypes:
            numbers = torch.randint(0, 100, (3, 4), generator=seeded())
            made[f"layer.{dtype}"] = numbers.to(dtype)
        base = torch.arange(24, dtype=self.dtypes[0]).reshape(4, 6)
        return made | {
            "scalar": torch.tensor(3, dtype=self.dtypes[0]),
            "empty": torch.empty(0, 5, dtype=self.dtypes[0]),
            "transposed": base.t(),
            "a view": base[1:3, 2:4],
            "größe": base[0].clone(),
            "not-finite": torch.tensor([float("nan"), float("inf"), float("-inf"), -0.0]),
        }

    def _saved(self, artifact: Artifact, folder: Path) -> Path:
        path = folder / f"model{self.suffix}"
        self.example(artifact, path)
        return path

    def _assert_stored(self, artifact: Artifact, path: Path) -> None:
        loaded = self.make().load(path)
        assert isinstance(loaded, Artifact), "load() must give an Artifact"
        assert set(loaded.tensors) == set(artifact.tensors), "load() gives tensors of other names"
        wrong = [name for name, tensor in artifact.tensors.items() if not same_bits(tensor, loaded.tensors[name])]
        assert not wrong, f"these came back with another dtype, shape or bit: {wrong}"
        assert loaded.manifest == artifact.manifest, "the manifest came back as another one"


def _same_tensors(one: Artifact, other: Artifact) -> bool:
    same_names = set(one.tensors) == set(other.tensors)
    return same_names and all(same_bits(tensor, other.tensors[name]) for name, tensor in one.tensors.items())
