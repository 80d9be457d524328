"""Letting kernels apply activations and keep codes between layers, where the first batch shows how."""

import warnings

import attrs
from torch import nn

from mono_quant._user_line import level_of_the_user
from mono_quant.errors import CalibrationError, QuantizationWarning
from mono_quant.io.checks import run_once
from mono_quant.modules import find_handovers, hand_over
from mono_quant.run import Run

__all__ = ["fuse"]


def fuse(quantized: nn.Module, run: Run) -> Run:
    """Set in the quantized layers how they hand over their outputs, and write it into the plan.

    Without a batch, or where the model does not run while it is watched, they give float tensors as ever.
    """
    first = run.first
    if first is None:
        return run
    layers = run.plan.layers
    try:
        found = find_handovers(quantized, lambda: run_once(quantized, first))
    except CalibrationError as error:
        run_once(quantized, first)  # raises, where it is not that it was watched
        text = f"no activation is fused, for the model did not run while it was watched: {error}"
        warnings.warn(text, QuantizationWarning, stacklevel=level_of_the_user())
        return run
    plan = run.plan.decide({n: attrs.evolve(layers[n], handover=how) for n, how in found.items() if n in layers})
    hand_over(quantized, plan.layers)
    return attrs.evolve(run, plan=plan)
