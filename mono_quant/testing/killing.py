"""Kill savers: ``python -m mono_quant.testing.killing PATH KILLS < pickle``, where the pickle is a `Format`.

Forks, so that torch is imported once for many kills. Prints what the file was after each of them: 1 or 2 for the whole
first or second version, or the error.
"""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from mono_quant.errors import ArtifactError
from mono_quant.plugin_api import Artifact, Format

__all__ = ["refuse_broken_by_kills"]


def refuse_broken_by_kills(file_format: Format, path: Path, kills: int) -> None:
    """Savers that are killed, in a process of their own, leave the old version or the new one."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ran = subprocess.run(  # noqa: S603 - this interpreter, this module
        [sys.executable, "-m", __name__, str(path), str(kills)],
        input=pickle.dumps(file_format), capture_output=True, env=environment, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, f"savers could not be killed: {ran.stderr.decode()[-1000:]}"
    found = json.loads(ran.stdout)
    assert set(found) <= {1, 2}, f"after a kill {path.name} is neither the old nor the new one: {found}"


def _artifact(version: int) -> Artifact:
    tensors = {f"layer{i}.weight": torch.full((200, 200 + version), version, dtype=torch.int8) for i in range(9)}
    return Artifact(tensors, {"version": version})


def _found(file_format: Format, path: Path) -> Any:  # noqa: ANN401 - a version or a message
    try:
        found = file_format.load(path)
    except ArtifactError as error:
        return str(error)
    for version in (1, 2):
        whole = _artifact(version)
        same = set(found.tensors) == set(whole.tensors) and found.manifest == whole.manifest
        if same and all(torch.equal(tensor, found.tensors[name]) for name, tensor in whole.tensors.items()):
            return version
    return "a mixture of two versions"


def _save_for_ever(file_format: Format, path: Path, begun: int) -> None:
    artifacts = [_artifact(version) for version in (1, 2)]
    file_format.save(artifacts[0], path)
    os.write(begun, b".")
    while True:
        for artifact in reversed(artifacts):
            file_format.save(artifact, path)


def main(path: Path, kills: int, file_format: Format) -> list[Any]:
    """What was found after each kill."""
    torch.set_num_threads(1)
    found = []
    for kill in range(kills):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            try:
                _save_for_ever(file_format, path, writing)
            finally:
                os._exit(1)
        os.close(writing)
        has_begun = os.read(reading, 1)
        os.close(reading)
        time.sleep(0.0037 * (kill % 7))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        was_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        found.append(_found(file_format, path) if has_begun and was_killed else "save() raised before it was killed")
    return found


if __name__ == "__main__":
    made = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 - from the suite that started this process
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), made)))
