"""Measure everything and write the page: ``python -m tests.bench [--output FILE]``.

Each part runs in a process of its own, so that no part meets the caches or the memory of another.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import torch

from .page import page
from .speed import BATCHES

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "measurements.md"
MODELS = ("minilm", "efficientnet", "crepe", "mlp")
WITHOUT_VNNI = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
}
"""An environment in which torch's kernels do what they do on a CPU that has AVX2 and no VNNI."""
GIVES_BACK = {
    "MALLOC_MMAP_THRESHOLD_": str(2**16),
    "MALLOC_MMAP_MAX_": str(2**20),
    "MALLOC_TRIM_THRESHOLD_": str(2**16),
    "MALLOC_ARENA_MAX": "1",
}
"""An environment in which glibc gives freed tensors back to the system, so that memory in use can be seen."""


def measured(part: str, *arguments: str, environment: dict[str, str] | None = None) -> dict[str, object]:
    """What ``python -m tests.bench.<part>`` prints as JSON on its last line."""
    sys.stderr.write(f"measuring {part} {' '.join(arguments)} {environment or ''}\n")
    command = [sys.executable, "-m", f"tests.bench.{part}", *arguments]
    ran = subprocess.run(  # noqa: S603 - our own modules
        command, check=True, capture_output=True, text=True, env={**os.environ, **(environment or {})}
    )
    result: dict[str, object] = json.loads(ran.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=PAGE)
    output: Path = parser.parse_args().output
    results = {
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "vnni": torch.cpu._is_vnni_supported(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "models": {name: measured("real_model", name) for name in MODELS},
        "models_without_vnni": {name: measured("real_model", name, environment=WITHOUT_VNNI) for name in MODELS},
        "speed": {name: measured("speed", name) for name in BATCHES},
        "speed_without_vnni": {name: measured("speed", name, environment=WITHOUT_VNNI) for name in BATCHES},
        "calibration": {name: measured("calibration", name) for name in MODELS},
        "memory": {name: measured("memory", name, environment=GIVES_BACK) for name in MODELS},
        "large_checkpoint": measured("large_checkpoint"),
        "imports": measured("imports"),
        "discovery": measured("discovery"),
    }
    output.write_text(page(results), encoding="utf-8")
    sys.stderr.write(f"written {output}\n")


main()
