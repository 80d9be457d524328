"""A script that has writers of shards killed. Prints what was found, as JSON. Usage: ``killing_shards.py <folder>``."""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from mono_quant.io.checkpoint import TensorInfo, open_checkpoint, write_checkpoint

KILLS = 30
INFOS = {f"{i}.weight": TensorInfo(torch.int8, (2000,)) for i in range(6)}


def write(folder: Path, version: int) -> Path:
    tensors = ((name, torch.full((2000,), version, dtype=torch.int8)) for name in INFOS)
    return write_checkpoint(folder / "m.safetensors", INFOS, tensors, {"version": str(version)}, max_shard_bytes=4000)


def write_for_ever(folder: Path) -> None:
    while True:
        for version in (1, 2):
            write(folder, version)


def versions_in(index: Path) -> list[int]:
    """What the tensors and the metadata say, each once; a whole checkpoint says one thing."""
    with open_checkpoint(index) as checkpoint:
        values = {int(value) for name in INFOS for value in checkpoint.read(name).unique()}
        return sorted(values | {int(checkpoint.metadata.get("version", 0))})


def main(folder: Path) -> None:
    random.seed(0)
    index = write(folder, 1)
    found, hidden = [], 0
    for _ in range(KILLS):
        before = index.stat().st_ino
        writer = os.fork()
        if not writer:
            write_for_ever(folder)
        while index.stat().st_ino == before:
            time.sleep(0.0005)
        time.sleep(random.uniform(0, 0.03))  # noqa: S311
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        found.append(versions_in(index))
        hidden += ".old" in index.read_text()
    write(folder, 1)
    left = sorted(path.name for path in folder.iterdir() if path.suffix != ".tmp")
    sys.stdout.write(json.dumps({"found": found, "killed while the old was hidden": hidden, "left": left}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
