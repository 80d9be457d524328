"""Have one target reached on one model; the driver starts it.

``python -m tests.bench.best_settings.gate MODEL TARGET --threads 2 --rows FOLDER``.
"""

import argparse
import time
from pathlib import Path

import torch

from mono_quant import Quantizer
from mono_quant.errors import TargetError
from mono_quant.plugin_api import Batch

from ..peers.cell import in_a_line
from .gate_targets import TARGETS
from .models import MODELS
from .rows import GateRow, write

__all__ = ["reach"]


def reach(model_name: str, title: str) -> GateRow:
    """From plain static int8."""
    model = MODELS[model_name]
    module = model.load()
    data = [Batch(args=inputs) for inputs in model.calibration()]
    target = TARGETS[title](model, module)
    quantizer = Quantizer(target=target, kernel="onednn", validators=(), show_progress=False)
    layers = len(quantizer.plan(module).layers)
    start = time.perf_counter()
    try:
        result, why = quantizer.quantize(module, data), ""
    except TargetError as error:
        result, why = error.best, in_a_line(error)
    seconds = time.perf_counter() - start
    found = result.found
    return GateRow(
        model=model_name, target=title, evaluations=len(found.evaluations), layers=layers,
        first=found.evaluations[0].value, value=found.value, unit=found.unit, is_met=found.is_met,
        changed=found.changed, seconds=seconds, why_left_out=why,
    )  # fmt: skip


def main() -> None:
    """Write the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("target")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    try:
        row = reach(told.model, told.target)
    except Exception as error:  # noqa: BLE001 - the page says what it was
        row = GateRow(model=told.model, target=told.target, why_left_out=in_a_line(error))
    write(row, told.rows)


if __name__ == "__main__":
    main()
