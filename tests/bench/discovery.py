"""What installed plugins cost: the first ``Quantizer()`` of a process with 0, 10 and 100 fake distributions.

``python -m tests.bench.discovery`` prints JSON: milliseconds by the number of plugins, medians of processes in turn.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

COUNTS = (0, 10, 100)
_ROUNDS = 9

_CODE = """
from mono_quant import hookimpl
from mono_quant.plugin_api import Observer, ObserverSpec

class Fake(Observer):
    pass

@hookimpl
def mono_quant_observers():
    return [ObserverSpec(name="fake-{number}", summary="one of many", factory=Fake)]
"""

_FIRST_QUANTIZER = """
import time
import torch, mono_quant
start = time.perf_counter()
mono_quant.Quantizer
middle = time.perf_counter()
quantizer = mono_quant.Quantizer()
end = time.perf_counter()
assert len(quantizer.components.manager.observers.names()) == 1 + {count}
print((end - middle) * 1e3)
"""


def install(folder: Path, count: int) -> None:
    """Distributions as pip leaves them, each with metadata of the usual length."""
    folder.mkdir()
    for number in range(count):
        (folder / f"mono_quant_fake_{number}.py").write_text(_CODE.format(number=number), encoding="utf-8")
        info = folder / f"mono_quant_fake_{number}-1.0.dist-info"
        info.mkdir()
        head = f"Metadata-Version: 2.1\nName: mono-quant-fake-{number}\nVersion: 1.0\nSummary: a fake\n\n"
        (info / "METADATA").write_text(head + "A line of a description.\n" * 100, encoding="utf-8")
        point = f"[mono_quant.plugins]\nfake-{number} = mono_quant_fake_{number}\n"
        (info / "entry_points.txt").write_text(point, encoding="utf-8")


def first_quantizer_ms(folder: Path, count: int) -> float:
    """In a new process, without importing mono_quant and torch."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(Path.cwd())])}
    command = [sys.executable, "-c", _FIRST_QUANTIZER.format(count=count)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)  # noqa: S603 - our own
    return float(ran.stdout)


def main() -> dict[str, float]:
    """Milliseconds by the number of plugins."""
    times: dict[int, list[float]] = {count: [] for count in COUNTS}
    with tempfile.TemporaryDirectory() as temporary:
        for count in COUNTS:
            install(Path(temporary) / str(count), count)
        for round_ in range(1 + _ROUNDS):
            for count, spent in times.items():
                took = first_quantizer_ms(Path(temporary) / str(count), count)
                if round_:  # the first compiles the modules
                    spent.append(took)
    return {str(count): median(spent) for count, spent in times.items()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main()) + "\n")
