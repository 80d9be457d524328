"""What each scheme costs in accuracy and saves in size, on real models: writes docs/reference/accuracy.md.

``python -m tests.bench.accuracy [--models NAME ...] [--output FILE]``. Nothing is timed. It fails when a model of
Linear layers alone takes more than `LINEAR_SHARE` of its float32 file as int4.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import torch
from torch import nn

from mono_quant.plugin_api import Plan
from tests.real_models import REAL_MODELS
from tests.real_models.outcome import file_mb, output_sqnr_db
from tests.real_models.remembering import Remembering
from tests.real_models.schemes import SCHEMES, quantizer_for

from .accuracy_page import page
from .outcomes import Outcome, Results
from .workloads import Workload, workload

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "accuracy.md"
LINEAR_ONLY = "mlp"
LINEAR_SHARE = 0.15
MODELS = (*(model.name for model in REAL_MODELS), LINEAR_ONLY)
ONLY = {"efficientnet_plain": ("int8-static", "int8-static full-range")}
"""Models of which the other schemes make what they make of another model too."""


def measure(name: str) -> Results:
    """A model under all schemes."""
    torch.manual_seed(0)
    load = workload(name)
    model = load.load()
    floats = Remembering(model)
    plans = {scheme: quantizer_for(scheme).plan(model) for scheme in ONLY.get(name, SCHEMES)}
    return Results(
        figures=_figures(load, floats, floats),
        file_mb=file_mb(model),
        layers=len(_with_parameters(model)),
        outcomes={
            scheme: _outcome(load, model, floats, scheme) if plan.layers else None for scheme, plan in plans.items()
        },
    )


def _outcome(load: Workload, model: nn.Module, floats: nn.Module, scheme: str) -> Outcome:
    sys.stderr.write(f"{load.name}: {scheme}\n")
    data = load.calibration() if SCHEMES[scheme]["name"] == "int8-static" else None
    result = quantizer_for(scheme, validators=()).quantize(model, data)
    return Outcome(
        layers=len(result.plan.layers),
        figures=_figures(load, result.model, floats),
        sqnr_db=output_sqnr_db(floats, result.model, load.held_back()),
        file_mb=file_mb(result.model),
        kept=_kept(model, result.plan),
    )


def _figures(load: Workload, model: nn.Module, float_model: nn.Module) -> dict[str, float]:
    return {} if load.score is None else load.score(model, float_model)


def _kept(model: nn.Module, plan: Plan) -> dict[tuple[str, str], int]:
    kept = {entry.name: entry.layer_type for entry in plan.entries if entry.name in plan.kept}
    return dict(Counter((kept[name], plan.kept[name]) for name in _with_parameters(model) if name in kept))


def _with_parameters(model: nn.Module) -> list[str]:
    """Names of the layers with parameters of their own, also of those that share them all with another."""
    return [name for name, module in model.named_modules() if next(module.parameters(recurse=False), None) is not None]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--output", type=Path, default=PAGE)
    arguments = parser.parse_args()
    output: Path = arguments.output
    results = {name: measure(name) for name in arguments.models}
    output.write_text(page(results), encoding="utf-8")
    sys.stderr.write(f"written {output}\n")
    if LINEAR_ONLY not in results:
        return 0
    linear = results[LINEAR_ONLY]
    outcome = linear.outcomes["int4-weight-only"]
    share = outcome.file_mb / linear.file_mb if outcome else 1.0
    sys.stderr.write(f"int4 in groups of 128, Linear layers alone: {share:.4f} of the float32 file\n")
    return int(share > LINEAR_SHARE)


if __name__ == "__main__":
    sys.exit(main())
