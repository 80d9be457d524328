"""Algorithms: rewrites of the float model that keep its function, and refinements of layers that were quantized."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from torch import Tensor, nn

from mono_quant.plugin_api.layer import QuantizedLayer
from mono_quant.plugin_api.plan import LayerPlan, Plan, Rewrite

__all__ = ["Algorithm", "DataFlow", "Refinement", "Statistic"]


class Statistic(Protocol):
    """What an algorithm wants to know of a module's inputs; collected while the calibration batches run."""

    def __call__(self, x: Tensor) -> object:
        """Take in the module's first input, of any shape. It must not be changed, and what is given back is dropped.

        Memory must not grow with the number of batches.
        """
        ...


class DataFlow(Protocol):
    """What was watched while the calibration batches ran: which module's output went where."""

    def only_consumer(self, name: str) -> str | None:
        """The one module that received the output of module ``name``, unchanged and alone, in every batch.

        None when anything else saw that output, when it left the model, when either module ran twice in a batch, when
        the consumer's own tensors were read from outside it, or when the flow cannot be known.
        """
        ...

    def consumers(self, name: str) -> tuple[str, ...]:
        """All modules that received the output of module ``name``, each once and unchanged, the same in every batch.

        Empty when anything but a module saw that output, and in the other cases of `only_consumer`.
        """
        ...

    def follower(self, name: str) -> str | None:
        """The one module that received what positively homogeneous functions made of the output of module ``name``.

        Or the output itself. Each channel of that output can be multiplied by a positive number, and the input of that
        module divided by it, along the axis of channels: the model gives the same. Between them lie rectifiers, pools
        and the like, each read once, the same in every batch. Both modules are linear layers, convolutions, batch norms
        or ``nn.PReLU``, run once in a batch. None in the other cases of `only_consumer`.
        """
        ...

    def output_ndim(self, name: str) -> int | None:
        """How many axes the one tensor had that module ``name`` gave, in every batch; None when that differed."""
        ...

    def statistic(self, name: str) -> Statistic | None:
        """What `Algorithm.statistic` gave for module ``name``, with all batches in it; None where it gave none."""
        ...


class Algorithm(ABC):
    """Finds rewrites from the watched data flow and carries them out, layer by layer, when layers are converted.

    Then it may refine the quantized layers one by one. Most algorithms do one of both.
    """

    changes_inputs: ClassVar[bool] = False
    """Whether layers get other inputs by its rewrites, so that their ranges are not those that were observed.

    The calibration data are then read a second time, with the rewritten model, for all layers that a rewrite names.
    """

    checks_every_batch: bool = False
    """Whether its rewrites rest on what the user said, so that one batch may not show that they are right.

    Where inputs change, the float model before and after them is then compared on all calibration batches.
    """

    only_refines: ClassVar[bool] = False
    """Whether `find` finds nothing, ever: what it collects is then collected of the model that is quantized alone.

    Where another algorithm changes inputs, this saves collecting it twice.
    """

    def statistic(self, name: str, module: nn.Module, plan: LayerPlan | None) -> Statistic | None:
        """What to collect of a module's inputs; by default nothing.

        Args:
            name: of a module that has parameters.
            module: it.
            plan: how it will be quantized; None where it stays in float.
        """
        del name, module, plan
        return None

    @abstractmethod
    def find(self, modules: Mapping[str, nn.Module], plan: Plan, flow: DataFlow) -> Sequence[Rewrite]:
        """The rewrites that are proven to keep the model's function. Changes nothing.

        Args:
            modules: of the float model, by name, after the rewrites that earlier algorithms have found.
            plan: what will be quantized.
            flow: what was watched.
        """

    @abstractmethod
    def apply(self, rewrite: Rewrite, modules: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        """New modules in place of the rewrite's layers, by name; the old ones stay as they are.

        Loading a file repeats this on the model that the file is loaded into, to get the same structure. The rewrite
        has no `Rewrite.values` then, since all tensors come from the file.
        """

    def refine(
        self, layer: nn.Module, quantized: QuantizedLayer, plan: LayerPlan, statistic: Statistic | None
    ) -> Mapping[str, Tensor]:
        """Better tensors for a layer that was just quantized, by name; by default none.

        They take the place of those of that name in its ``state_dict``, of the same shape and dtype: other codes, as
        ``"weight"``; other scales, zero points, or biases. Layers that share a weight are not refined. Changes nothing.

        Args:
            layer: the float layer, after its rewrites.
            quantized: the layer that a scheme made of it.
            plan: how it was quantized.
            statistic: what `statistic` gave for this layer, with all batches in it, those of the rewritten model where
                inputs changed; None where it gave none, or there was no data.
        """
        del layer, quantized, plan, statistic
        return {}


class Refinement(Algorithm):
    """An algorithm that leaves the float model as it is, and gives better tensors to quantized layers alone."""

    only_refines = True

    def find(self, modules: Mapping[str, nn.Module], plan: Plan, flow: DataFlow) -> Sequence[Rewrite]:
        """Nothing."""
        del modules, plan, flow
        return ()

    def apply(self, rewrite: Rewrite, modules: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        """Nothing."""
        del rewrite, modules
        return {}

    @abstractmethod
    def refine(
        self, layer: nn.Module, quantized: QuantizedLayer, plan: LayerPlan, statistic: Statistic | None
    ) -> Mapping[str, Tensor]:
        """Better tensors, as for `Algorithm.refine`."""
