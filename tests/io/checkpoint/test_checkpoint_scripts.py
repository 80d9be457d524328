"""What must be seen from outside of the process: its memory, and what is left of it when it is killed."""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
TENSOR_MB = 10


def run(script: str, *arguments: str | Path) -> dict:
    command = [sys.executable, HERE / script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own script
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def test_copying_a_checkpoint_takes_memory_for_a_few_of_its_tensors_only(tmp_path: Path):
    reports = run("copying.py", tmp_path, "sharded=16", "safetensors=9", "pt=10")
    assert [report["tensors"] for report in reports.values()] == [16, 9, 10]
    for kind, report in reports.items():
        assert report["right"]
        assert report["anonymous"] < 2 * TENSOR_MB, kind
        assert report["resident"] < 3 * TENSOR_MB + 50, kind


def test_a_writer_of_shards_that_is_killed_leaves_the_old_or_the_new(tmp_path: Path):
    report = run("killing_shards.py", tmp_path)
    assert len(report["found"]) == 30
    assert all(versions in ([1], [2]) for versions in report["found"])
    assert report["left"] == [*(f"m-0000{i}-of-00003.safetensors" for i in (1, 2, 3)), "m.safetensors.index.json"]
