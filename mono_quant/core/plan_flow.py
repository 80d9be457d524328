"""The data flow of a plan: which modules are watched, and which layers stay in float for what was seen."""

from collections.abc import Mapping

from torch import nn

from mono_quant.core.dataflow import PRECISION_READS, DataFlowRecorder
from mono_quant.plugin_api.plan import Keep, Plan

__all__ = ["read_outside", "worth_watching"]


def worth_watching(modules: Mapping[str, nn.Module], plan: Plan) -> list[str]:
    """The leaf modules that have parameters or buffers, whose flow can matter, and all that will be replaced."""
    return [
        name
        for name, module in modules.items()
        if name in plan.layers or (next(module.children(), None) is None and (*module.parameters(), *module.buffers()))
    ]


def read_outside(watched: DataFlowRecorder, plan: Plan) -> dict[str, Keep]:
    """The layers of the plan whose tensors were read while they did not run, and would not read as float any more."""
    return {
        name: Keep(_why(reader))
        for name, reader in watched.outside_reads.items()
        if name in plan.layers and plan.layers[name].input is not None
    }


def _why(reader: str) -> str:
    """Why a layer stays in float whose weight the torch function ``reader`` read."""
    if reader not in PRECISION_READS:
        return f"its weight is also read by {reader}, outside the layer"
    return (
        f"{reader} of its weight is read outside the layer, as in x.to(layer.weight.dtype), and would be that of int8 "
        "codes: read that of an input, or override its scheme with one for weights alone, whose weights read as float"
    )
