"""What a deferred tensor stands for: values that are computed when they are asked for, as floats or as codes."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from mono_quant.core.affine import quantize
from mono_quant.core.qtypes import UINT8
from mono_quant.plugin_api.activation import Activation
from mono_quant.plugin_api.kernel import FusedRun

__all__ = ["Demand", "LayerOutput", "Mapped", "Output", "Values"]

Demand = Literal["codes", "plain", "layout", "activation", "before activation"]
"""What was asked of a layer's output: codes, a plain tensor, floats in whatever layout, an activation, and anything
but an activation of what has none yet."""


class Output(ABC):
    """Float32 values that may not exist yet. They never change: an operation gives another output.

    Args:
        shape: theirs.
    """

    __slots__ = ("is_shared", "shape")

    def __init__(self, shape: torch.Size) -> None:
        self.shape = shape
        self.is_shared = False
        """Whether another output is computed of it."""

    @abstractmethod
    def values(self) -> Tensor:
        """The floats, in whatever layout; not to be written into."""

    @abstractmethod
    def codes(self, scale: float, zero_point: int) -> Tensor:
        """Their uint8 codes, in whatever layout."""

    @property
    @abstractmethod
    def has_floats(self) -> bool:
        """Whether codes are made of floats: it does not depend on what came before."""

    @property
    def is_watched(self) -> bool:
        """Whether a layer is to be told what is asked of it."""
        return False

    def activated(self, activation: Activation) -> "Output | None":
        """The same with an activation applied, where that costs nothing; else None."""
        del activation
        return None

    def note(self, demand: Demand) -> None:  # noqa: B027 - there is not always somebody to tell
        """Tell the layer what is asked of its output."""


class LayerOutput(Output):
    """The output of a quantized layer: its input's codes and what is to be computed of them.

    Args:
        run: the layer, packed.
        input_codes: of its input.
        shape: of its output.
        keeps_floats: whether floats are computed also when codes are asked for, since floats will be asked for too.
        demands: where to note what is asked, while that is being watched.
        activation: applied to the output.
    """

    __slots__ = ("_activation", "_demands", "_input_codes", "_keeps_floats", "_run", "_values")

    def __init__(
        self,
        run: FusedRun,
        input_codes: Tensor,
        shape: torch.Size,
        *,
        keeps_floats: bool,
        demands: set[Demand] | None,
        activation: Activation | None = None,
    ) -> None:
        super().__init__(shape)
        self._run = run
        self._input_codes: Tensor | None = input_codes
        self._keeps_floats = keeps_floats
        self._demands = demands
        self._activation = activation
        self._values: Tensor | None = None

    def values(self) -> Tensor:
        """Computed once."""
        if self._values is None:
            self._values = self._shaped(self._run.fused(self._codes_of_input(), self._activation))
            if self._keeps_floats:
                self._input_codes = None  # nothing is computed of them any more
        return self._values

    def codes(self, scale: float, zero_point: int) -> Tensor:
        """Given by the layer itself, in the same step, unless floats are needed too."""
        if self.has_floats:
            return quantize(self.values(), scale, zero_point, UINT8)
        return self._shaped(self._run.fused(self._codes_of_input(), self._activation, (scale, zero_point)))

    @property
    def has_floats(self) -> bool:
        """Where it keeps them."""
        return self._keeps_floats

    @property
    def is_watched(self) -> bool:
        """While what the model does with the layers is being found out."""
        return self._demands is not None

    def activated(self, activation: Activation) -> Output | None:
        """Where the kernel can, and none was applied before."""
        if self._activation is not None or self._input_codes is None or activation.name not in self._run.activations:
            return None
        self.note("activation")
        return LayerOutput(
            self._run,
            self._input_codes,
            self.shape,
            keeps_floats=self._keeps_floats,
            demands=self._demands,
            activation=activation,
        )

    def _codes_of_input(self) -> Tensor:
        if self._input_codes is None:
            raise RuntimeError("the codes of a layer's input are asked for after they were let go")
        return self._input_codes

    def _shaped(self, given: Tensor) -> Tensor:
        return given if given.shape == self.shape else given.view(self.shape)

    def note(self, demand: Demand) -> None:
        """For the layer, while it is being watched."""
        if self._demands is not None:
            self._demands.add(demand)
            if self._activation is None and demand != "activation":
                self._demands.add("before activation")


class Values(Output):
    """Floats that are there, in a layout that kernels like."""

    __slots__ = ("_values",)

    def __init__(self, values: Tensor) -> None:
        super().__init__(values.shape)
        self._values = values

    @property
    def has_floats(self) -> bool:
        """It has."""
        return True

    def values(self) -> Tensor:
        """They."""
        return self._values

    def codes(self, scale: float, zero_point: int) -> Tensor:
        """Of them."""
        return quantize(self._values, scale, zero_point, UINT8)


class Mapped(Output):
    """Another output through a function that gives some of its elements, so that it can be applied to codes as well.

    Args:
        source: the other output.
        function: on floats or codes, in any layout.
        shape: of the result.
    """

    __slots__ = ("_function", "_has_floats", "_source", "_source_is_watched", "_values")

    def __init__(
        self,
        source: Output,
        function: Callable[[Tensor], Tensor],
        shape: torch.Size,
    ) -> None:
        super().__init__(shape)
        source.is_shared = True
        self._source: Output | None = source
        self._has_floats = source.has_floats
        self._source_is_watched = source.is_watched
        self._function = function
        self._values: Tensor | None = None

    def values(self) -> Tensor:
        """Computed once."""
        if self._values is None:
            self._values = self._function(self._of().values())
            if self._has_floats and not self._source_is_watched:
                self._source = None  # which may hold more than is needed of it
        return self._values

    def codes(self, scale: float, zero_point: int) -> Tensor:
        """Of the floats where they are there, else the source's codes through the function."""
        if self.has_floats:
            return quantize(self.values(), scale, zero_point, UINT8)
        return self._function(self._of().codes(scale, zero_point))

    @property
    def has_floats(self) -> bool:
        """Where the source has."""
        return self._has_floats

    @property
    def is_watched(self) -> bool:
        """Where the source is."""
        return self._source_is_watched

    def note(self, demand: Demand) -> None:
        """For the source, while it is there."""
        if self._source is not None:
            self._source.note(demand)

    def _of(self) -> Output:
        if self._source is None:
            raise RuntimeError("the source of an output is asked for after it was let go")
        return self._source
