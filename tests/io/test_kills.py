"""Killed at any moment while saving over a file, the file is the old one or the new one, never a part or a mixture."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("killing.py")
SUFFIXES = pytest.mark.parametrize("suffix", [".safetensors", ".pt"])


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    command = [sys.executable, "-W", "error", SCRIPT, tmp_path_factory.mktemp("kills")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return json.loads(done.stdout)


@SUFFIXES
def test_a_killed_saver_leaves_the_old_or_the_new_file(reports: dict[str, dict], suffix: str):
    killed = reports[suffix]["killed"]
    assert len(killed["found"]) == 40
    assert set(killed["found"]) == {1, 2}


@SUFFIXES
def test_what_a_killed_saver_leaves_behind_has_no_name_of_a_model(reports: dict[str, dict], suffix: str):
    killed = reports[suffix]["killed"]
    assert killed["caught while writing"] > 10  # most kills came in the middle of a write, so this tests something
    assert killed["strangers"] == []


@SUFFIXES
def test_a_reader_beside_a_writer_sees_one_version_at_a_time(reports: dict[str, dict], suffix: str):
    assert set(reports[suffix]["read"]["found"]) == {1, 2}
