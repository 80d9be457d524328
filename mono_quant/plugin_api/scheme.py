"""Schemes: what is quantized and how."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import nn

from mono_quant.plugin_api.observer import Observer
from mono_quant.plugin_api.plan import Keep, LayerPlan

__all__ = ["Scheme"]


class Scheme(ABC):
    """Decides layer by layer, and builds the quantized layers."""

    @abstractmethod
    def plan(self, name: str, module: nn.Module) -> LayerPlan | Keep:
        """Decide on one module from its type and shapes alone: no data is read, nothing is changed."""

    @abstractmethod
    def convert(self, module: nn.Module, plan: LayerPlan, statistics: Mapping[str, Observer]) -> nn.Module:
        """The quantized layer. The float module stays as it is.

        Args:
            module: the float layer, after the plan's rewrites.
            plan: what `plan` decided for it.
            statistics: ``{"input": observer}`` when ``plan.input`` asks for it, with data in it; otherwise empty.
        """

    @abstractmethod
    def restore(self, module: nn.Module, plan: LayerPlan) -> nn.Module:
        """The quantized layer with empty tensors on the ``meta`` device, for those of a file to be assigned."""
