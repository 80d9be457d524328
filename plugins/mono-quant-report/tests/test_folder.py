"""Nothing but an old report is ever replaced."""

from pathlib import Path

import pytest
from mono_quant.errors import ConfigurationError

from mono_quant_report.folder import LISTING, refuse_foreign, replace_folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_new_folder_is_written_with_its_parents_and_nothing_beside(tmp_path: Path):
    replace_folder(tmp_path / "a" / "b", {"index.html": b"x"})
    assert names(tmp_path / "a" / "b") == {"index.html", LISTING}
    assert names(tmp_path / "a") == {"b"}


def test_an_old_report_is_replaced_whole(tmp_path: Path):
    replace_folder(tmp_path / "r", {"index.html": b"old", "old.png": b"old"})
    replace_folder(tmp_path / "r", {"index.html": b"new", "new.png": b"new"})
    assert names(tmp_path / "r") == {"index.html", "new.png", LISTING}
    assert (tmp_path / "r" / "index.html").read_bytes() == b"new"
    assert names(tmp_path) == {"r"}


def test_an_empty_folder_is_taken(tmp_path: Path):
    (tmp_path / "r").mkdir()
    replace_folder(tmp_path / "r", {"index.html": b"x"})
    assert "index.html" in names(tmp_path / "r")


def test_a_link_to_a_report_stays_a_link(tmp_path: Path):
    replace_folder(tmp_path / "r", {"index.html": b"old"})
    (tmp_path / "link").symlink_to(tmp_path / "r")
    replace_folder(tmp_path / "link", {"index.html": b"new"})
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "r" / "index.html").read_bytes() == b"new"


def plant_file(folder: Path) -> None:
    folder.write_text("a file")


def plant_other(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")


def plant_page(folder: Path) -> None:
    folder.mkdir()
    (folder / "index.html").write_text("somebody else's")


def plant_addition(folder: Path) -> None:
    replace_folder(folder, {"index.html": b"x"})
    (folder / "my notes.txt").write_text("worth keeping")


def plant_folder_inside(folder: Path) -> None:
    replace_folder(folder, {"index.html": b"x", "sub": b"x"})
    (folder / "sub").unlink()
    (folder / "sub").mkdir()


def plant_damaged(folder: Path) -> None:
    replace_folder(folder, {"index.html": b"x"})
    (folder / LISTING).write_text('{"index.html": ')


def plant_strange(folder: Path) -> None:
    replace_folder(folder, {"index.html": b"x"})
    (folder / LISTING).write_text('[["index.html"]]')


def plant_dangling(folder: Path) -> None:
    folder.symlink_to(folder.with_name("nowhere"))


PLANTS = (plant_file, plant_other, plant_page, plant_addition, plant_folder_inside, plant_damaged, plant_strange)


@pytest.mark.parametrize("plant", [*PLANTS, plant_dangling])
def test_what_is_not_a_report_is_refused_and_kept(tmp_path: Path, plant):  # noqa: ANN001
    folder = tmp_path / "r"
    plant(folder)
    before = sorted((str(path), path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())
    for act in (refuse_foreign, lambda path: replace_folder(path, {"index.html": b"new"})):
        with pytest.raises(ConfigurationError, match=r"give another"):
            act(folder)
    assert sorted((str(path), path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file()) == before


@pytest.mark.parametrize("failing", ["write_bytes", "rename"])
def test_an_old_report_outlives_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str):
    replace_folder(tmp_path / "r", {"index.html": b"old"})
    original, calls = getattr(Path, failing), []

    def fail_the_second_time(self: Path, *arguments: object) -> object:
        calls.append(self)
        if len(calls) == 2:
            raise OSError("no space left")
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Path, failing, fail_the_second_time)
        with pytest.raises(OSError, match="no space left"):
            replace_folder(tmp_path / "r", {"index.html": b"new", "b.png": b"new"})
    assert (tmp_path / "r" / "index.html").read_bytes() == b"old"
    assert names(tmp_path) == {"r"}
