"""A synthetic sharded checkpoint of 2 GB is quantized weight-only; how much memory that takes.

``python -m tests.bench.large_checkpoint [--gigabytes 2]`` prints JSON; it fails when the peak is over the bound:
three times the largest tensor and 300 MB.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import safetensors.torch
import torch

_MB = 2**20
_ROWS = 4096
_LAYER_MB = 64
_SHARD = 8


def write(folder: Path, gigabytes: float) -> None:
    """Layers of 64 MB and their biases, eight layers a file, with an index."""
    files = max(1, round(gigabytes * 1024 / _LAYER_MB / _SHARD))
    weight_map = {}
    for file in range(files):
        tensors = {}
        for layer in range(file * _SHARD, (file + 1) * _SHARD):
            tensors[f"layers.{layer}.weight"] = torch.randn(_ROWS, _LAYER_MB * _MB // 4 // _ROWS)
            tensors[f"layers.{layer}.bias"] = torch.randn(_ROWS)
        name = f"model-{file + 1:05}-of-{files:05}.safetensors"
        safetensors.torch.save_file(tensors, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
    index = {"metadata": {"total_size": files * _SHARD * _LAYER_MB * _MB}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def peak_of(scheme: str, folder: Path) -> float:
    """Peak resident MB of a process that quantizes it, over those of one that has only imported everything."""
    before = "import mono_quant, torch; from mono_quant import quantize; mono_quant.Quantizer('int8-weight-only')\n"
    work = f"quantize({str(folder)!r}, scheme={scheme!r}).save({str(folder / 'quantized.safetensors')!r})\n"
    # Not getrusage, which begins with what the parent had when it forked.
    tell = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM:')))"
    peaks = []
    for code in (before + tell, before + work + tell):
        ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)  # noqa: S603
        peaks.append(int(ran.stdout.splitlines()[-1]) / 1024)
    return peaks[1] - peaks[0]


def main(gigabytes: float) -> dict[str, dict[str, float]]:
    """For each scheme, in MB: peak, bound, and the size of the file."""
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(folder, gigabytes)
        for scheme in ("int8-weight-only", "int4-weight-only"):
            peak = peak_of(scheme, folder)
            written = folder / "quantized.safetensors"
            tensors = safetensors.torch.load_file(written)  # readable by plain safetensors
            results[scheme] = {
                "tensors": len(tensors),
                "peak_mb": peak,
                "bound_mb": 3 * _LAYER_MB + 300,
                "file_mb": written.stat().st_size / _MB,
            }
            del tensors
            written.unlink()
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2)
    found = main(parser.parse_args().gigabytes)
    sys.stdout.write(json.dumps(found) + "\n")
    sys.exit(any(result["peak_mb"] > result["bound_mb"] for result in found.values()))
