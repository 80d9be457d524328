"""A script that copies checkpoints tensor by tensor, and prints as JSON what memory each kind took.

Usage: ``copying.py <folder> <kind>=<tensors> ...``; a tensor has 10 MB.
Peaks are in MB, above what the process had before.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from mono_quant.io.checkpoint import Checkpoint, TensorInfo, open_checkpoint, write_checkpoint

INFO = TensorInfo(torch.bfloat16, (5, 2**20))


def make(folder: Path, kind: str, count: int) -> Path:
    names = [f"layers.{i}.weight" for i in range(count)]
    tensors = ((name, torch.full(INFO.shape, i, dtype=INFO.dtype)) for i, name in enumerate(names))
    if kind == "pt":
        torch.save(dict(tensors), folder / "source.pt")
        return folder / "source.pt"
    return write_checkpoint(folder / "source.safetensors", dict.fromkeys(names, INFO), tensors, {}, shard_bytes(kind))


def shard_bytes(kind: str) -> int | None:
    return 8 * INFO.nbytes if kind == "sharded" else None


def status(key: str) -> int:
    """Of this process, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) // 1024


def tensors_in(checkpoint: Checkpoint, anonymous: list[int]) -> Iterator[tuple[str, Tensor]]:
    for name in checkpoint:
        yield name, checkpoint.read(name)
        anonymous.append(status("RssAnon"))


def copy(source: Path, folder: Path, kind: str) -> dict[str, object]:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest resident size counts from here
    resident, anonymous = status("VmHWM"), [status("RssAnon")]
    with open_checkpoint(source) as checkpoint:
        tensors = tensors_in(checkpoint, anonymous)
        target = folder / "copy.safetensors"
        written = write_checkpoint(target, checkpoint.infos, tensors, checkpoint.metadata, shard_bytes(kind))
    peaks = {"resident": status("VmHWM") - resident, "anonymous": max(anonymous) - anonymous[0]}
    with open_checkpoint(written) as copied:
        values = [int(copied.read(name)[-1, -1]) for name in copied]
    return peaks | {"right": sorted(values) == [*range(len(values))], "tensors": len(values)}


def in_a_process_of_its_own(folder: Path, kind: str, count: int) -> dict[str, object]:
    """What making the checkpoint takes, and what other kinds took, is not counted."""
    folder.mkdir()
    for step in ("make", "copy"):
        child = os.fork()
        if not child:
            if step == "make":
                (folder / "made").write_text(str(make(folder, kind, count)))
            else:
                report = copy(Path((folder / "made").read_text()), folder, kind)
                (folder / "report.json").write_text(json.dumps(report))
            os._exit(0)
        os.waitpid(child, 0)
    return json.loads((folder / "report.json").read_text())


def main(folder: Path, kinds: list[str]) -> None:
    asked = (kind.split("=") for kind in kinds)
    sys.stdout.write(json.dumps({kind: in_a_process_of_its_own(folder / kind, kind, int(n)) for kind, n in asked}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
