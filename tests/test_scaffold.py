"""``monoquant plugin new`` writes projects whose tests pass as written."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mono_quant._plugins.manager import PluginManager
from mono_quant.cli import main
from mono_quant.errors import ConfigurationError
from mono_quant.plugin_api import hookspecs
from mono_quant.scaffold import KINDS, write_project


def test_there_is_a_kind_for_every_hook():
    assert sorted(f"mono_quant_{kind}s" for kind in KINDS) == sorted(hookspecs.HOOKS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_project_is_complete_and_nothing_in_it_is_left_to_fill_in(tmp_path: Path, kind: str):
    folder = write_project("two-words", kind, tmp_path / "made")
    assert folder == tmp_path / "made" / "mono-quant-two-words"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        ".gitignore", "README.md", "noxfile.py", "pyproject.toml", "src/mono_quant_two_words/__init__.py",
        "src/mono_quant_two_words/py.typed", "tests/test_mono_quant_two_words.py",
    }  # fmt: skip
    texts = " ".join((folder / name).read_text() for name in files)
    assert not re.search("example.?(thing|kind|version)", texts.lower())
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["mono_quant.plugins"] == {"two-words": "mono_quant_two_words"}
    assert list(tmp_path.glob("made/.mono-quant-*")) == []


def test_the_tests_of_every_kind_pass_as_written(tmp_path: Path):
    folders = [write_project(f"new-{kind}", kind, tmp_path) for kind in KINDS]
    places = [*(str(folder / "src") for folder in folders), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-W",
        "error",
        "--rootdir",
        str(tmp_path),
    ]
    tests = [str(folder / "tests") for folder in folders]
    ran = subprocess.run([*command, *tests], capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)  # noqa: S603 - ours
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert " passed" in ran.stdout


@pytest.mark.parametrize("name", ["spread", "mono-quant-spread"])
def test_the_name_is_with_or_without_the_prefix(tmp_path: Path, name: str):
    assert write_project(name, "observer", tmp_path).name == "mono-quant-spread"


@pytest.mark.parametrize("name", ["", "Spread", "two words", "../elsewhere", "9th", "a--b", "mono-quant-"])
def test_another_name_is_refused_and_nothing_written(tmp_path: Path, name: str):
    with pytest.raises(ConfigurationError, match="a plugin is named by lower-case words"):
        write_project(name, "observer", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_kind_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"no kind 'hook' of plugin; there are observer, source, "):
        write_project("thing", "hook", tmp_path)


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path):
    (tmp_path / "mono-quant-thing").mkdir()
    with pytest.raises(ConfigurationError, match="mono-quant-thing is there already"):
        write_project("thing", "observer", tmp_path)
    assert list((tmp_path / "mono-quant-thing").iterdir()) == []


def test_the_command_says_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["plugin", "new", "thing", "--kind", "validator", "--into", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "src/mono_quant_thing/__init__.py" in out
    assert f"next: cd {tmp_path / 'mono-quant-thing'} && python -m pip install -e '.[testing]' && pytest" in out


@pytest.mark.parametrize("kind", KINDS)
def test_the_plugin_of_every_kind_registers_under_a_name_of_two_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    folder = write_project(f"two-{kind}s", kind, tmp_path)
    monkeypatch.syspath_prepend(folder / "src")
    manager = PluginManager()
    manager.add(f"mono_quant_two_{kind}s")
    (provider,) = manager.providers
    assert manager.components(provider) == {kind: [f"two-{kind}s"]}
