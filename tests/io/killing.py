"""A script that has savers killed: forked from this process, which has torch in it, so that 50 kills are quick.

Prints one JSON object. Usage: ``killing.py <folder>``.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from mono_quant.errors import ArtifactError
from mono_quant.io.pytorch_format import PytorchFormat
from mono_quant.io.safetensors_format import SafetensorsFormat
from mono_quant.plugin_api import Artifact, Format

FORMATS: dict[str, Format] = {".safetensors": SafetensorsFormat(), ".pt": PytorchFormat()}
VERSIONS = (1, 2)


def artifact(version: int) -> Artifact:
    """A few hundred kilobytes, all of which tell the version."""
    tensors = {f"layer{i}.weight": torch.full((100, 100 + version), version, dtype=torch.int8) for i in range(20)}
    return Artifact(tensors, {"version": version, "padding": [version] * 1000})


def version_in(path: Path, format: Format) -> int:  # noqa: A002
    """Which of the versions a file is, after comparing all of it."""
    found = format.load(path)
    version = int(found.manifest["version"])
    whole = artifact(version)
    same = found.manifest == whole.manifest and found.tensors.keys() == whole.tensors.keys()
    if not same or not all(torch.equal(tensor, found.tensors[name]) for name, tensor in whole.tensors.items()):
        message = "a mixture"
        raise ArtifactError(message)
    return version


def save_for_ever(path: Path, format: Format) -> None:  # noqa: A002
    artifacts = [artifact(version) for version in VERSIONS]
    while True:
        for each in artifacts:
            format.save(each, path)


def kill_writers(folder: Path, suffix: str, kills: int) -> dict[str, object]:
    path, format = folder / f"model{suffix}", FORMATS[suffix]  # noqa: A001
    random.seed(suffix)
    found: list[int] = []
    report: dict[str, object] = {"found": found, "caught while writing": 0, "strangers": []}
    format.save(artifact(VERSIONS[0]), path)
    for _ in range(kills):
        before = path.stat().st_ino
        saver = os.fork()
        if not saver:
            save_for_ever(path, format)
        while path.stat().st_ino == before:
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.02))  # noqa: S311
        os.kill(saver, signal.SIGKILL)
        os.waitpid(saver, 0)
        found.append(version_in(path, format))
        others = [other for other in folder.iterdir() if other != path]
        report["caught while writing"] += bool(others)
        report["strangers"] += [other.name for other in others if other.suffix == suffix or other.name[0] != "."]
        for other in others:
            other.unlink()
    return report


def read_beside_a_writer(folder: Path, suffix: str, readings: int) -> dict[str, object]:
    path, format = folder / f"model{suffix}", FORMATS[suffix]  # noqa: A001
    format.save(artifact(VERSIONS[0]), path)
    saver = os.fork()
    if not saver:
        save_for_ever(path, format)
    try:
        found: list[int] = []
        while len(found) < readings or set(found) != set(VERSIONS):
            found.append(version_in(path, format))
        return {"found": found}
    finally:
        os.kill(saver, signal.SIGKILL)
        os.waitpid(saver, 0)


def main(folder: Path) -> None:
    reports = {}
    for suffix in FORMATS:
        place = folder / suffix
        place.mkdir()
        reports[suffix] = {
            "killed": kill_writers(place, suffix, 40),
            "read": read_beside_a_writer(place, suffix, 60),
        }
    sys.stdout.write(json.dumps(reports))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
