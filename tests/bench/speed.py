"""One model under several schemes and torch.ao's dynamic quantization, side by side in one process.

``python -m tests.bench.speed mlp|minilm`` prints JSON: for each batch size and candidate, the ratio of float eager's
latency to its own, and the SQNR of its output on a batch that is held back from calibration.
"""

import json
import sys
import time
import warnings
from collections import Counter
from statistics import median

import torch
from torch import nn

from mono_quant import Quantizer
from mono_quant.modules import QuantizedModule
from tests.real_models import ModelInput, run
from tests.real_models.outcome import output_sqnr_db

from .workloads import workload

SCHEMES: dict[str, object] = {
    "int8-static": "int8-static",
    "int8-dynamic": "int8-dynamic",
    "int8-dynamic per token": {"name": "int8-dynamic", "activations": "per-token"},
    "int8-weight-only": "int8-weight-only",
    "int4-weight-only": {"name": "int4-weight-only", "misfit": "adjust"},
    "float8-weight-only": "float8-weight-only",
    "bfloat16": "bfloat16",
}
BATCHES = {"mlp": (1, 64), "minilm": (1,)}
_ROUNDS = 40
_BUDGET_S = 25.0


def main(name: str) -> dict[str, object]:
    load = workload(name)
    model = load.load().eval()
    candidates: dict[str, nn.Module] = {"torch.ao dynamic": _torch_ao(model)}
    for label, scheme in SCHEMES.items():
        quantizer = Quantizer(scheme, validators=(), show_progress=False)
        candidates[label] = quantizer.quantize(model, load.calibration()).model
    with torch.inference_mode():
        sqnr = {label: output_sqnr_db(model, one, load.held_back()) for label, one in candidates.items()}
        return {
            str(batch): _side_by_side(model, candidates, load.example(batch)) | {"sqnr_db": sqnr}
            for batch in BATCHES[name]
        }


def _torch_ao(model: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


def _side_by_side(model: nn.Module, candidates: dict[str, nn.Module], argument: ModelInput) -> dict[str, object]:
    """All of them in turn, round after round, so that a change of the machine's speed meets all alike.

    Each runs once untimed before it is timed: the weights of the one before it, float's above all, are in the caches.
    """
    everyone = {"float": model, **candidates}
    for one in everyone.values():
        run(one, argument), run(one, argument)
    times: dict[str, list[float]] = {label: [] for label in everyone}
    end = time.perf_counter() + _BUDGET_S
    while len(times["float"]) < _ROUNDS and time.perf_counter() < end:
        for label, one in everyone.items():
            run(one, argument)
            start = time.perf_counter()
            run(one, argument)
            times[label].append((time.perf_counter() - start) * 1e3)
    floats = median(times["float"])
    return {
        "float_ms": floats,
        "ratios": {label: floats / median(times[label]) for label in candidates},
        "kernels": {label: _kernels(one) for label, one in candidates.items()},
        "rounds": len(times["float"]),
    }


def _kernels(model: nn.Module) -> dict[str, int]:
    layers = [module for module in model.modules() if isinstance(module, QuantizedModule)]
    return dict(Counter(name for layer in layers for name in layer.kernels_in_use))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1])) + "\n")
