"""A file that cannot be written is an error that names it, and what was there before stays."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from mono_quant import load_model, save_model
from mono_quant._atomic import replacing
from mono_quant.errors import ArtifactError

SCRIPT = Path(__file__).with_name("full_disk.py")
UNREADABLE = Path(__file__).with_name("unreadable_folder.py")
SUFFIXES = pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
STATE = {"x": torch.arange(4)}


def test_on_a_full_disk_the_old_file_stays_and_nothing_else(tmp_path: Path):
    command = [sys.executable, "-W", "error", SCRIPT, tmp_path]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    attempts = json.loads(done.stdout)
    assert len(attempts) == 6
    for attempt in attempts:
        assert attempt["message"].startswith(f"ArtifactError: {attempt['path']} cannot be written: ")
        assert attempt["old file is whole"]
        assert attempt["files"] == [Path(attempt["path"]).name]


def in_a_missing_folder(folder: Path) -> Path:
    return folder / "missing" / "model"


def in_a_file(folder: Path) -> Path:
    (folder / "file").write_text("not a folder")
    return folder / "file" / "model"


def in_a_folder_of_the_kernel(_: Path) -> Path:
    return Path("/proc/model")


def with_a_name_too_long(folder: Path) -> Path:
    return folder / ("m" * 300)


def with_the_name_of_a_folder(folder: Path) -> Path:
    for suffix in (".safetensors", ".pt"):
        (folder / f"taken{suffix}" / "inside").mkdir(parents=True)
    return folder / "taken"


@pytest.mark.parametrize(
    "place",
    [
        in_a_missing_folder,
        in_a_file,
        in_a_folder_of_the_kernel,
        with_a_name_too_long,
        with_the_name_of_a_folder,
    ],
    ids=lambda place: place.__name__,
)
@SUFFIXES
def test_a_place_that_cannot_be_written_is_an_error_that_names_it(
    tmp_path: Path, place: Callable[[Path], Path], suffix: str
):
    path = place(tmp_path).with_suffix(suffix)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ArtifactError, match="cannot be written") as caught:
        save_model(STATE, path)
    assert str(path) in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@SUFFIXES
def test_a_model_that_the_format_cannot_hold_leaves_the_old_file(tmp_path: Path, suffix: str):
    path = tmp_path / f"model{suffix}"
    save_model(STATE, path)
    with pytest.raises(ArtifactError):
        save_model(nn.Linear(2, 2, device="meta"), path)
    assert torch.equal(load_model(path)["x"], STATE["x"])
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_may_be_written_and_not_read_takes_a_file():
    done = subprocess.run([sys.executable, "-W", "error", UNREADABLE], capture_output=True, text=True, check=False)  # noqa: S603
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"readable": False, "content": "new", "mode": "0o440"}


def fail_half_way(path: Path, error: type[BaseException]) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise error


@pytest.mark.parametrize("error", [OSError, ValueError, KeyboardInterrupt])
def test_whatever_stops_the_writer_the_old_file_stays(tmp_path: Path, error: type[BaseException]):
    path = tmp_path / "model"
    path.write_text("old")
    with pytest.raises(ArtifactError if error is OSError else error):
        fail_half_way(path, error)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_has_no_other_name_than_its_own_before_it_is_whole(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.suffix == ".tmp"
    assert path.read_text() == "new"


@SUFFIXES
def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path: Path, suffix: str):
    plain = tmp_path / "plain"
    plain.touch()
    save_model(STATE, tmp_path / f"model{suffix}")
    assert (tmp_path / f"model{suffix}").stat().st_mode == plain.stat().st_mode


@SUFFIXES
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path, suffix: str):
    path = tmp_path / f"model{suffix}"
    save_model(STATE, path)
    path.chmod(0o640)
    save_model(STATE, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_asking_for_the_permissions_does_not_change_them(tmp_path: Path):
    mask = os.umask(0o027)
    try:
        save_model(STATE, tmp_path / "model.pt")
        assert stat.S_IMODE((tmp_path / "model.pt").stat().st_mode) == 0o640
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(mask)


@SUFFIXES
def test_a_path_may_be_text(tmp_path: Path, suffix: str):
    save_model(STATE, str(tmp_path / f"model{suffix}"))
    assert torch.equal(load_model(str(tmp_path / f"model{suffix}"))["x"], STATE["x"])


def test_a_file_in_the_current_folder_needs_no_folder_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    save_model(STATE, "model.safetensors")
    assert torch.equal(load_model("model.safetensors")["x"], STATE["x"])
