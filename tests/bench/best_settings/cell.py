"""Measure one contender on one model; the driver starts it.

``python -m tests.bench.best_settings.cell MODEL CONTENDER --threads 2 --rows FOLDER``.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mono_quant.core.sqnr import sum_sqnr_db
from tests.real_models.remembering import Remembering

from ..peers.cell import in_a_line
from ..peers.machine import cpu, forget_peak, peak_mb, versions
from .contenders import Built, contender
from .models import MODELS, tensors
from .rows import Row, write

__all__ = ["measure"]

_HELD_BACK_ONE_IN = 4
"""Of the batches there are: settings are compared on these, and fitted to the others."""


def measure(model_name: str, contender_name: str) -> Row:
    """Everything about it."""
    model, chosen = MODELS[model_name], contender(contender_name)
    module, batches = model.load(), model.calibration()
    held_back = batches[::_HELD_BACK_ONE_IN]
    calibration = [batch for place, batch in enumerate(batches) if place % _HELD_BACK_ONE_IN]
    chosen.load()
    forget_peak()
    with torch.no_grad():
        for inputs in calibration:
            module(*inputs)
    float_mb = peak_mb()
    start = time.perf_counter()
    built = chosen.build(model, module, calibration)
    seconds = time.perf_counter() - start
    peak = peak_mb() - float_mb

    floats = Remembering(module)
    beside = _Beside(floats, built)
    with torch.no_grad():
        for inputs in held_back:
            beside(*inputs)
        chosen_db = beside.sqnr_db()
        figures = model.score(beside, floats)
    if chosen_db == math.inf:
        raise ValueError("it quantizes nothing: every output is that of float")
    return Row(
        model=model_name, contender=contender_name, figures=figures, sqnr_db=beside.sqnr_db(), chosen_db=chosen_db,
        seconds=seconds, peak_mb=peak, details=built.details, cpu=cpu(), versions=versions(),
    )  # fmt: skip


class _Beside(nn.Module):
    """What a contender made, with float beside it at each call."""

    def __init__(self, floats: nn.Module, built: Built) -> None:
        super().__init__()
        self._floats = floats
        self._built = built
        self._pairs: list[tuple[Tensor, Tensor]] = []

    def forward(self, *inputs: Tensor) -> Any:  # noqa: ANN401 - a tensor or several
        output = self._built.call(inputs)
        self._pairs += zip(tensors(self._floats(*inputs)), tensors(output), strict=True)
        return output

    def sqnr_db(self) -> float:
        """Of all since it was last asked for."""
        pairs, self._pairs = self._pairs, []
        return sum_sqnr_db(pairs)


def main() -> None:
    """Write the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("contender")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    torch.manual_seed(0)
    try:
        row = measure(told.model, told.contender)
    except Exception as error:  # noqa: BLE001 - whatever a contender raises is why it is left out
        row = Row(model=told.model, contender=told.contender, why_left_out=in_a_line(error), versions=versions())
    write(row, told.rows)


if __name__ == "__main__":
    main()
