"""One model: task figures, output SQNR, file sizes, and latency as a ratio to float eager, batch 1 and 16."""

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch
from torch import nn

from mono_quant import Quantizer, save_model
from mono_quant.calibration.data import as_batch
from mono_quant.core.latency import alternate
from mono_quant.core.sqnr import sum_sqnr_db
from mono_quant.core.tensors import iter_tensors
from mono_quant.modules import QuantizedModule
from tests.real_models import ModelInput, run

from .workloads import workload


def main(name: str) -> dict[str, object]:
    load = workload(name)
    model = load.load()
    result = Quantizer(show_progress=False).quantize(model, load.calibration())
    with torch.no_grad():
        latency = {batch: _latency(model, result.model, load.example(batch)) for batch in (1, 16)}
        held_back = _sqnr(model, result.model, load.example(4))
        figures = {} if load.score is None else _figures(load.score(model, model), load.score(result.model, model))
    return {
        "figures": figures,
        "sqnr_db": result.info.sqnr_db,
        "held_back_sqnr_db": held_back,
        "layers": len(result.plan.layers),
        "float_layers": len([e for e in result.plan.entries if e.name in result.plan.kept and e.parameter_bytes]),
        "files_mb": _file_sizes(model, result.model),
        "latency": latency,
        "report": str(result),
    }


def _figures(floats: dict[str, float], quantized: dict[str, float]) -> dict[str, tuple[float, float]]:
    return {figure: (value, quantized[figure]) for figure, value in floats.items()}


def _latency(model: nn.Module, quantized: nn.Module, example: ModelInput) -> dict[str, object]:
    """Float and int8 in turn, medians of up to 20 each, and the kernels that int8 then used."""
    for module in quantized.modules():
        if isinstance(module, QuantizedModule):
            module.repack()
    before, after = alternate(lambda one: run(model, one), lambda one: run(quantized, one), lambda: example, budget_s=5)
    kernels = Counter(name for m in quantized.modules() if isinstance(m, QuantizedModule) for name in m.engine.chosen)
    return {"float_ms": before, "int8_ms": after, "ratio": before / after, "kernels": dict(kernels)}


def _sqnr(model: nn.Module, quantized: nn.Module, example: ModelInput) -> float:
    batch = as_batch(example)
    outputs = [list(iter_tensors(m(*batch.args, **batch.kwargs))) for m in (model, quantized)]
    return sum_sqnr_db(zip(*outputs, strict=True))


def _file_sizes(model: nn.Module, quantized: nn.Module) -> tuple[float, float]:
    """MB of the two ``.safetensors`` files."""
    with tempfile.TemporaryDirectory() as folder:
        sizes = []
        for number, one in enumerate((model, quantized)):
            path = Path(folder) / f"{number}.safetensors"
            save_model(one, path)
            sizes.append(path.stat().st_size / 2**20)
    return sizes[0], sizes[1]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1])) + "\n")
