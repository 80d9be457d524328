"""Schemes: what is quantized and how."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from mono_quant.plugin_api.observer import Observer
from mono_quant.plugin_api.plan import Keep, LayerPlan, WeightSpec

__all__ = ["Scheme"]


class Scheme(ABC):
    """Decides layer by layer, and builds the quantized layers."""

    @abstractmethod
    def plan(self, name: str, module: nn.Module) -> LayerPlan | Keep:
        """Decide on one module from its type and shapes alone: no data is read, nothing is changed.

        A plan whose ``input`` is None promises that the quantized layer's parameters still read as float, for what
        looks at them from outside the layer.
        """

    def plan_tensor(self, name: str, weight: Tensor) -> WeightSpec | Keep:
        """Decide on one tensor of a checkpoint, of which no module is known; by default it is kept.

        Args:
            name: of the tensor, ``"encoder.fc.weight"``.
            weight: on ``meta``: its dtype and shape alone.
        """
        del name, weight
        own = getattr(self, "name", type(self).__name__)
        return Keep(
            f"{own} quantizes the layers of a model and cannot work on a checkpoint alone: take a scheme for weights, "
            "such as int8-weight-only (on the command line --scheme int8-weight-only)"
        )

    @abstractmethod
    def convert(self, module: nn.Module, plan: LayerPlan, statistics: Mapping[str, Observer]) -> nn.Module:
        """The quantized layer. The float module stays as it is.

        It may hold the same modules and buffers: they are copied with the rest of the model, or stay where a model is
        quantized in place.

        Args:
            module: the float layer, after the plan's rewrites.
            plan: what `plan` decided for it.
            statistics: ``{"input": observer}`` when ``plan.input`` asks for it, with data in it; otherwise empty.
        """

    @abstractmethod
    def restore(self, module: nn.Module, plan: LayerPlan) -> nn.Module:
        """The quantized layer with empty tensors on the ``meta`` device, for those of a file to be assigned.

        Raises:
            UnsupportedLayerError: when this module cannot become that layer.
        """
