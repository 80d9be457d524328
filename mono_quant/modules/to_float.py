"""Back from a quantized model to plain float layers."""

from torch import nn

from mono_quant.core.surgery import copy_with
from mono_quant.modules.base import QuantizedModule
from mono_quant.modules.fast_paths import return_to_fast_paths
from mono_quant.modules.handover import hand_over_floats

__all__ = ["to_float"]


def to_float(model: nn.Module) -> nn.Module:
    """A copy of a model in which each quantized layer is the float layer with the weights that its codes stand for.

    Weights that were tied are tied; everything else is as in the float model, torch's fast paths for encoders too.
    """
    made: dict[int, nn.Parameter] = {}
    modules = model.named_modules()
    floats = {name: module.to_float(made) for name, module in modules if isinstance(module, QuantizedModule)}
    return hand_over_floats(return_to_fast_paths(copy_with(model, floats)))
