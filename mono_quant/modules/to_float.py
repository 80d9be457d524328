"""Back from a quantized model to plain float layers."""

from collections.abc import Iterator

from torch import nn

from mono_quant.core.surgery import copy_with
from mono_quant.modules.base import QuantizedModule
from mono_quant.modules.fast_paths import return_to_fast_paths

__all__ = ["to_float"]


def to_float(model: nn.Module) -> nn.Module:
    """A copy of a model in which each quantized layer is the float layer with the weights that its codes stand for.

    Weights that were tied are tied; everything else is as in the float model, torch's fast paths for encoders too.
    """
    made: dict[int, nn.Parameter] = {}
    modules = model.named_modules(remove_duplicate=False)  # one may stand inside another and by itself
    quantized = {name: module for name, module in modules if isinstance(module, QuantizedModule)}
    outermost = {name: module for name, module in quantized.items() if quantized.keys().isdisjoint(_above(name))}
    return return_to_fast_paths(copy_with(model, {name: module.to_float(made) for name, module in outermost.items()}))


def _above(name: str) -> Iterator[str]:
    """The names of the modules that a module stands in."""
    while name:
        name = name.rpartition(".")[0]
        yield name
