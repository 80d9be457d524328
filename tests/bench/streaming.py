"""A folder of 4 GB, shaped like Llama 3 8B with fewer layers, is quantized by ``monoquant checkpoint``.

``nox -s bench_streaming`` prints JSON: the peak memory of all processes together, the rate against a plain program that
reads the same bytes, casts bfloat16 to int8, and writes and flushes as many, and what became of runs that were killed
at ten random moments. For int4 the plain program writes half of what it casts. It fails when the peak is over 1 GB, or
a killed run ends in other bytes.
"""

import argparse
import ctypes
import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

_HIDDEN = 4096
_VOCABULARY = 128256
_LAYER = {
    "self_attn.q_proj": (_HIDDEN, _HIDDEN),
    "self_attn.k_proj": (1024, _HIDDEN),
    "self_attn.v_proj": (1024, _HIDDEN),
    "self_attn.o_proj": (_HIDDEN, _HIDDEN),
    "mlp.gate_proj": (14336, _HIDDEN),
    "mlp.up_proj": (14336, _HIDDEN),
    "mlp.down_proj": (_HIDDEN, 14336),
}
_BLOCK = 2**20
_MB = 2**20
_GB = 10**9
_KILLS = 10


def shapes(gigabytes: float) -> Iterator[dict[str, tuple[int, ...]]]:
    """The tensors of each file: an embedding of 1 GB, layers of 0.44 GB each, an output layer of 1 GB."""
    embedding = (_VOCABULARY, _HIDDEN)
    layer_bytes = 2 * sum(rows * columns for rows, columns in _LAYER.values())
    yield {"model.embed_tokens.weight": embedding}
    for layer in range(max(1, math.ceil((gigabytes * _GB - 4 * _VOCABULARY * _HIDDEN) / layer_bytes))):
        weights = {f"model.layers.{layer}.{name}.weight": shape for name, shape in _LAYER.items()}
        norms = {f"model.layers.{layer}.{name}.weight": (_HIDDEN,) for name in ("input_layernorm", "post_layernorm")}
        yield weights | norms
    yield {"model.norm.weight": (_HIDDEN,), "lm_head.weight": embedding}


def write(folder: Path, gigabytes: float) -> int:
    """Write them, in bfloat16; the bytes of all tensors."""
    folder.mkdir()
    noise = torch.randn(_BLOCK, generator=torch.Generator().manual_seed(0))
    files = [*shapes(gigabytes)]
    weight_map = {}
    total = 0
    for number, some in enumerate(files, start=1):
        tensors: dict[str, Tensor] = {}
        for name, shape in some.items():
            count = torch.Size(shape).numel()
            values = (noise * (0.02 + 0.001 * len(weight_map))).bfloat16()
            tensors[name] = values.repeat(-(-count // _BLOCK))[:count].view(shape)
            weight_map[name] = f"model-{number:05}-of-{len(files):05}.safetensors"
            total += tensors[name].nbytes
        save_file(tensors, folder / f"model-{number:05}-of-{len(files):05}.safetensors", metadata={"format": "pt"})
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}), encoding="utf-8")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    return total


def copy_and_cast(in_dir: Path, out_dir: Path, workers: int, kept: float) -> None:
    """The plain program, by so many processes; of the int8 that it makes it writes the part ``kept``."""
    out_dir.mkdir()
    files = sorted(in_dir.glob("*.safetensors"), key=lambda file: file.stat().st_size)
    command = [sys.executable, "-m", "tests.bench.streaming", "--copy-part", str(kept), str(out_dir)]
    parts = [subprocess.Popen([*command, *map(str, files[part::workers])]) for part in range(workers)]  # noqa: S603
    codes = [part.wait() for part in parts]
    if any(codes):
        raise RuntimeError("the plain program failed")


def copy_part(out_dir: Path, files: list[Path], kept: float, threads: int) -> None:
    """What one of its processes does."""
    torch.set_num_threads(threads)
    buffer = torch.empty(_BLOCK, dtype=torch.bfloat16)
    room = memoryview((ctypes.c_char * buffer.nbytes).from_address(buffer.data_ptr())).cast("B")
    for path in files:
        with path.open("rb", buffering=0) as source, (out_dir / path.name).open("wb", buffering=0) as target:
            source.seek(int.from_bytes(source.read(8), "little"), os.SEEK_CUR)
            while count := source.readinto(room):
                codes = buffer[: count // 2].to(torch.int8)
                wanted = int(len(codes) * kept)
                target.write((ctypes.c_char * wanted).from_address(codes.data_ptr()))
            os.fsync(target.fileno())


def command(scheme: str, in_dir: Path, out_dir: Path, workers: int) -> list[str]:
    """Ours."""
    options = ["--scheme", scheme, "--workers", str(workers), "--quiet"]
    return [sys.executable, "-m", "mono_quant", "checkpoint", str(in_dir), str(out_dir), *options]


def peak_of(arguments: list[str]) -> tuple[float, float]:
    """The most memory of a process and all that it starts, in MB: with what they share once, and once for each."""
    process = subprocess.Popen(arguments)  # noqa: S603
    most = shared_twice = 0.0
    while process.poll() is None:
        sizes = [_memory(pid) for pid in (process.pid, *_children(process.pid))]
        most = max(most, sum(pss for pss, _ in sizes))
        shared_twice = max(shared_twice, sum(rss for _, rss in sizes))
        time.sleep(0.02)
    if process.returncode:
        raise RuntimeError(f"{arguments} failed")
    return most, shared_twice


def _children(pid: int) -> list[int]:
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        found = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return [one for child in found for one in (child, *_children(child))]


def _memory(pid: int) -> tuple[float, float]:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return 0.0, 0.0
    values = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
    return values.get("Pss", 0.0), values.get("Rss", 0.0)


def digest(folder: Path) -> str:
    """Of all files in a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.update(str(path.relative_to(folder)).encode())
            with path.open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def seconds(work: list[str]) -> float:
    """How long a command takes."""
    start = time.perf_counter()
    subprocess.run(work, check=True)  # noqa: S603
    return time.perf_counter() - start


def rates(in_dir: Path, folder: Path, nbytes: int, workers: int, rounds: int) -> dict[str, dict[str, float]]:
    """For each scheme, in turn with the plain program: medians."""
    found = {}
    for scheme, kept in (("int8-weight-only", 1.0), ("int4-weight-only", 0.5)):
        ours, plain = [], []
        for _ in range(rounds):
            for name, times in (("plain", plain), ("ours", ours)):
                out_dir = folder / name
                start = time.perf_counter()
                if name == "plain":
                    copy_and_cast(in_dir, out_dir, workers, kept)
                else:
                    subprocess.run(command(scheme, in_dir, out_dir, workers), check=True)  # noqa: S603
                times.append(time.perf_counter() - start)
                shutil.rmtree(out_dir)
        ratios = sorted(one / other for one, other in zip(ours, plain, strict=True))
        middle = rounds // 2
        found[scheme] = {
            "ours_mb_s": nbytes / 1e6 / sorted(ours)[middle],
            "plain_mb_s": nbytes / 1e6 / sorted(plain)[middle],
            "times_as_long": ratios[middle],
        }
    return found


def kill_often(in_dir: Path, folder: Path, workers: int, whole_s: float, seed: int) -> dict[str, object]:
    """Kill all processes of a run at random moments, then let it end; whether the bytes are those of a whole run."""
    work = command("int4-weight-only", in_dir, folder / "killed", workers)
    moments = random.Random(seed)  # noqa: S311
    kills = []
    while len(kills) < _KILLS:
        process = subprocess.Popen(work, start_new_session=True)  # noqa: S603
        try:
            process.wait(moments.uniform(0.3, 1.0) * whole_s / 2)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)  # its workers find out
            process.wait()
            journal = folder / "killed" / ".mono_quant-progress.json"
            kills.append(len(journal.read_text().splitlines()) - 1 if journal.exists() else 0)
        else:
            shutil.rmtree(folder / "killed")  # it came to its end
    subprocess.run(work, check=True)  # noqa: S603
    subprocess.run(command("int4-weight-only", in_dir, folder / "whole", workers), check=True)  # noqa: S603
    is_same = digest(folder / "killed") == digest(folder / "whole")
    return {"units_done_at_each_kill": kills, "is_same": is_same}


def main(told: argparse.Namespace) -> dict[str, Any]:
    """All that is asked for."""
    results: dict[str, Any] = {"failed": False}
    with tempfile.TemporaryDirectory(dir=told.folder) as temporary:
        folder = Path(temporary)
        in_dir = folder / "in"
        nbytes = write(in_dir, told.gigabytes)
        results["gigabytes"] = nbytes / _GB
        start = time.perf_counter()
        if "memory" in told.parts:
            for scheme in ("int8-weight-only", "int4-weight-only"):
                peak, summed = peak_of(command(scheme, in_dir, folder / "out", told.workers))
                results[f"peak_mb, {scheme}"] = {"peak_mb": peak, "sum_of_rss_mb": summed}
                results["failed"] = results["failed"] or peak * _MB > _GB
                shutil.rmtree(folder / "out")
        whole_s = (time.perf_counter() - start) / 2 if "memory" in told.parts else told.whole_s
        if "speed" in told.parts:
            results["rates"] = rates(in_dir, folder, nbytes, told.workers, told.rounds)
        if "kills" in told.parts:
            results["kills"] = kill_often(in_dir, folder, told.workers, whole_s, told.seed)
            results["failed"] = results["failed"] or not results["kills"]["is_same"]
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the files are written; default: the temporary folder")
    parser.add_argument("--whole-s", type=float, default=7, help="how long a run takes, where memory is not measured")
    parser.add_argument("--parts", nargs="+", default=["memory", "speed", "kills"])
    parser.add_argument("--copy-part", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.copy_part:
        part, target, *sources = arguments.copy_part
        copy_part(Path(target), [Path(source) for source in sources], float(part), threads=1)
    else:
        found = main(arguments)
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        sys.exit(bool(found["failed"]))
