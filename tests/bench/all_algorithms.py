"""All algorithms together on the encoder: time, memory, task figures: ``python -m tests.bench.all_algorithms``.

Memory is what `quantize` takes beside the float model, at its highest, in MB and in times of the model's own; each
line has a process of its own, for memory that was let go is used again.
"""

import subprocess
import sys
import time

import torch
from torch import nn

from mono_quant import Quantizer
from mono_quant.io import calculate_model_size
from tests.real_models import MINILM

from .memory import Peak

TOGETHER = {
    "int8-static": ("bn-fold", "cross-layer-equalization", "smoothquant", "gptq", "bias-correction"),
    "int8-static, adaround": ("bn-fold", "cross-layer-equalization", "smoothquant", "adaround", "bias-correction"),
    "int4-weight-only": ("bn-fold", "awq", "hqq", "gptq", "bias-correction"),
    "int4-weight-only, adaround": ("bn-fold", "awq", "hqq", "adaround", "bias-correction"),
}
"""``gptq`` and ``adaround`` choose the same codes, ``smoothquant`` and ``awq`` are for other schemes."""


def main() -> int:
    for name in TOGETHER:
        subprocess.run([sys.executable, "-m", __spec__.name, name], check=True)  # noqa: S603 - this module
    return 0


def measure(name: str) -> None:
    scheme, algorithms = name.partition(",")[0], TOGETHER[name]
    quantizer = Quantizer(scheme, algorithms=algorithms, validators=(), show_progress=False)
    small = nn.Sequential(nn.Linear(128, 128)).eval()
    quantizer.quantize(small, [torch.randn(4, 128)])  # what is imported is not counted
    model, data = MINILM.load(), MINILM.calibration()
    begun = time.perf_counter()
    with Peak() as peak:
        result = quantizer.quantize(model, data)
    seconds, size = time.perf_counter() - begun, calculate_model_size(model)[0]
    figures = ", ".join(f"{one} {figure:.4f}" for one, figure in MINILM.score(result.model, model).items())
    sys.stdout.write(f"{name}: {seconds:.0f} s, {peak.mb:.0f} MB, {peak.mb / size:.1f} times the model; {figures}\n")


if __name__ == "__main__":
    sys.exit(measure(sys.argv[1]) if len(sys.argv) > 1 else main())
