"""What ``import mono_quant`` adds to ``import torch``, and the first `Quantizer`: medians of several new processes."""

import json
import subprocess
import sys
from statistics import median

_CODE = """
import time, torch
start = time.perf_counter()
import mono_quant
imported = time.perf_counter()
from mono_quant import Quantizer
Quantizer()
print(1e3 * (imported - start), 1e3 * (time.perf_counter() - imported))
"""


def main() -> dict[str, object]:
    runs = []
    for _ in range(7):
        ran = subprocess.run(  # noqa: S603 - the code above
            [sys.executable, "-c", _CODE], check=True, capture_output=True, text=True
        )
        runs.append(tuple(map(float, ran.stdout.split())))
    return {"import_ms": median(run[0] for run in runs), "first_quantizer_ms": median(run[1] for run in runs)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main()) + "\n")
