"""All algorithms together on the sentence encoder: seconds, peak memory, output SQNR: ``python -m tests.bench.all_algorithms``.

Memory is what `quantize` takes beside the float model, in MB and in times of the model's own.
"""

import sys
import time

import torch

from mono_quant import Quantizer
from mono_quant.io import calculate_model_size
from tests.real_models import MINILM

from .memory import Peak

TOGETHER = {
    "int8-static": ("bn-fold", "cross-layer-equalization", "smoothquant", "gptq", "bias-correction"),
    "int8-static, adaround": ("bn-fold", "cross-layer-equalization", "smoothquant", "adaround", "bias-correction"),
    "int4-weight-only": ("bn-fold", "awq", "gptq", "bias-correction"),
    "int4-weight-only, adaround": ("bn-fold", "awq", "adaround", "bias-correction"),
}
"""``gptq`` and ``adaround`` choose the same codes, ``smoothquant`` and ``awq`` are for other schemes."""


def main() -> int:
    model, data = MINILM.load(), MINILM.calibration()
    size = calculate_model_size(model)[0]
    sys.stdout.write(f"float: {size:.0f} MB; {torch.get_num_threads()} threads\n")
    for name, algorithms in TOGETHER.items():
        scheme = name.partition(",")[0]
        quantizer = Quantizer(scheme, algorithms=algorithms, validators=(), show_progress=False)
        begun = time.perf_counter()
        with Peak() as peak:
            result = quantizer.quantize(model, data)
        seconds = time.perf_counter() - begun
        figures = MINILM.score(result.model, model)
        scores = ", ".join(f"{one} {figure:.4f}" for one, figure in figures.items())
        sys.stdout.write(f"{name}: {seconds:.0f} s, {peak.mb:.0f} MB, {peak.mb / size:.1f} times the model; {scores}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
