"""Killed at any moment while saving over a file, the file is the old one or the new one, never a part or a mixture."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("killing.py")
SUFFIXES = pytest.mark.parametrize("suffix", [".safetensors", ".pt"])


def run_script(*arguments: object) -> dict[str, list]:
    command = [sys.executable, "-W", "error", SCRIPT, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return json.loads(done.stdout)


@SUFFIXES
def test_a_killed_saver_leaves_the_old_or_the_new_file(tmp_path: Path, suffix: str):
    report = run_script("kill", tmp_path, suffix, 40)
    assert len(report["found"]) == 40
    assert set(report["found"]) == {1, 2}
    assert report["strangers"] == []
    assert report["caught while writing"] > 10  # most kills came in the middle of a write, so this tested something


@SUFFIXES
def test_a_reader_beside_a_writer_sees_one_version_at_a_time(tmp_path: Path, suffix: str):
    assert set(run_script("read", tmp_path, suffix, 150)["found"]) == {1, 2}
