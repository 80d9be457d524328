"""One model: task figures, output SQNR, file sizes, and latency as a ratio to float eager, batch 1 and 16."""

import json
import sys
from collections import Counter

import torch
from torch import nn

from mono_quant import Quantizer
from mono_quant.core.latency import take_turns
from mono_quant.modules import QuantizedModule
from tests.real_models import ModelInput, run
from tests.real_models.outcome import file_mb, output_sqnr_db

from .workloads import workload


def main(name: str) -> dict[str, object]:
    load = workload(name)
    model = load.load()
    result = Quantizer(show_progress=False).quantize(model, load.calibration())
    with torch.no_grad():
        latency = {batch: _latency(model, result.model, load.example(batch)) for batch in (1, 16)}
        held_back = output_sqnr_db(model, result.model, load.held_back())
        figures = {} if load.score is None else _figures(load.score(model, model), load.score(result.model, model))
    return {
        "figures": figures,
        "sqnr_db": result.info.sqnr_db,
        "held_back_sqnr_db": held_back,
        "layers": len(result.plan.layers),
        "float_layers": len([e for e in result.plan.entries if e.name in result.plan.kept and e.parameter_bytes]),
        "files_mb": (file_mb(model), file_mb(result.model)),
        "latency": latency,
        "report": str(result),
    }


def _figures(floats: dict[str, float], quantized: dict[str, float]) -> dict[str, tuple[float, float]]:
    return {figure: (value, quantized[figure]) for figure, value in floats.items()}


def _latency(model: nn.Module, quantized: nn.Module, example: ModelInput) -> dict[str, object]:
    """Float and int8 in turn, medians of up to 21 each, and the kernels that int8 then used."""
    for module in quantized.modules():
        if isinstance(module, QuantizedModule):
            module.repack()
    before, after = take_turns(
        [lambda one: run(model, one), lambda one: run(quantized, one)], lambda: example, budget_s=5
    )
    kernels = Counter(name for m in quantized.modules() if isinstance(m, QuantizedModule) for name in m.kernels_in_use)
    return {"float_ms": before, "int8_ms": after, "ratio": before / after, "kernels": dict(kernels)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1])) + "\n")
