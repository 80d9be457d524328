"""What algorithms give back of what int4 weights cost a language model: ``python -m tests.bench.perplexity``.

SmolLM2-135M, its weights off the grid of its file; calibrated on the first half of the news items, scored on the
second.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from mono_quant import Quantizer
from mono_quant.errors import QuantizationWarning
from tests.real_models import SMOLLM2

GROUPS = {"name": "int4-weight-only", "group_size": 128, "misfit": "pad"}
"""576 inputs are four groups of 128 and a half one."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--group-size", type=int, default=GROUPS["group_size"])
    parser.add_argument("--algorithms", nargs="+", default=["gptq"])
    arguments = parser.parse_args()
    warnings.simplefilter("error", QuantizationWarning)
    torch.manual_seed(0)
    model, data = SMOLLM2.load(), SMOLLM2.calibration()
    floats = SMOLLM2.score(model, model)["perplexity"]
    sys.stdout.write(f"float            {floats:.2f}\n")
    scheme: Mapping[str, Any] = {**GROUPS, "group_size": arguments.group_size}
    gaps = {}
    for name in (None, *arguments.algorithms):
        begun = time.perf_counter()
        quantizer = Quantizer(scheme, algorithms=[name] if name else [], validators=(), show_progress=False)
        result = quantizer.quantize(model, data)
        seconds = time.perf_counter() - begun
        figures = SMOLLM2.score(result.model, model)
        gaps[name] = figures["perplexity"] - floats
        sys.stdout.write(
            f"{name or 'nearest':16} {figures['perplexity']:.2f}  gap {gaps[name]:.2f}, {gaps[name] / gaps[None]:.0%} "
            f"of nearest's; agreement {figures['agreement']:.3f}; {seconds:.0f} s\n"
        )
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
