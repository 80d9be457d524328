"""A script that has savers killed: forked from this process, which has torch in it, so that 50 kills are quick.

Prints one JSON object. Usage: ``killing.py kill|read <folder> <suffix> <times>``
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


def main(folder: Path, suffix: str, kills: int) -> dict[str, object]:
    path, format = folder / f"model{suffix}", FORMATS[suffix]  # noqa: A001
    random.seed(suffix)
    found: list[int] = []
    report: dict[str, object] = {"found": found, "caught while writing": 0, "strangers": []}
    format.save(artifact(VERSIONS[0]), path)
    for _ in range(kills):
        saver = os.fork()
        if not saver:
            save_for_ever(path, format)
        time.sleep(random.uniform(0, 0.03))  # noqa: S311
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
        return {"found": [version_in(path, format) for _ in range(readings)]}
    finally:
        os.kill(saver, signal.SIGKILL)
        os.waitpid(saver, 0)


if __name__ == "__main__":
    work = {"kill": main, "read": read_beside_a_writer}[sys.argv[1]]
    sys.stdout.write(json.dumps(work(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))))
