"""Which linear layers read the same tensor, and what before them can take a factor of its channels."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mono_quant.core.plan import tied_layers
from mono_quant.core.smoothing.inputs import Inputs
from mono_quant.core.smoothing.reader import Reader
from mono_quant.core.smoothing.scaled_layer import THROUGH, is_scaled_by_rows, may_scale_channels, scaled_channels
from mono_quant.core.smoothing.scaled_module import SomeRows, may_scale, scaled
from mono_quant.errors import ConfigurationError
from mono_quant.plugin_api.algorithm import DataFlow
from mono_quant.plugin_api.plan import Plan

__all__ = ["Places", "multiplied"]


def multiplied(module: nn.Module, factor: Tensor) -> nn.Module:
    """A copy of what stands before, whose output is multiplied by ``factor``, ``(K,)``, channel by channel."""
    if may_scale(module):
        return scaled(module, factor)
    return scaled_channels(module, after=factor.double().reciprocal())


class Places:
    """What is known of the layers whose inputs may get a factor.

    Args:
        modules: of the float model, by name.
        plan: what will be quantized.
        flow: what was watched, with `Inputs` of the layers and `SomeRows` of what may be a norm.
        readers: module → the layers that read its output, for modules of which the user says so.
    """

    def __init__(
        self, modules: Mapping[str, nn.Module], plan: Plan, flow: DataFlow, readers: Mapping[str, tuple[str, ...]]
    ) -> None:
        self._named = readers
        self._modules = modules
        self._plans = plan.layers
        self._flow = flow
        self._tied = tied_layers(plan)
        self._changed = {layer for rewrite in plan.rewrites if rewrite.values for layer in rewrite.layers}
        self._used_twice = {entry.name for entry in plan.entries if entry.also}

    def before(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Each module that can take a factor, with all layers that read its output.

        Raises:
            ConfigurationError: when the user has named the readers of a module, and it can take none for them.
        """
        self._refuse_unknown()
        for name in self._modules:
            named, watched = self._named.get(name, ()), self._watched(name)
            if named and (left_out := [reader for reader in watched if reader not in named]):
                raise ConfigurationError(f"{_quoted(left_out)} read {name!r} too: name them among its readers")
            readers = named or watched
            why_not = self._why_not(name, readers)
            if not why_not:
                yield name, readers
            elif named:
                raise ConfigurationError(f"{name!r} cannot take a factor for {_quoted(readers)}: {why_not}")

    def takes(self, name: str, module: nn.Module, factor: Tensor) -> bool:
        """Whether the output of a module that has a norm's parameters is multiplied with them; tried on some rows."""
        rows = self._flow.statistic(name)
        return not isinstance(rows, SomeRows) or rows.prove(module, factor)

    def by_input(self, names: Collection[str]) -> list[tuple[str, ...]]:
        """Those of the layers that can have a factor of their own, together where they were given the same.

        One factor for all of them is as right as one for each, and a runtime can multiply once.
        """
        groups: dict[bytes, list[str]] = {}
        for name in self._plans:
            if name in names and not self._why_not_divided(name):
                groups.setdefault(self.reader(name).inputs.fingerprint, []).append(name)
        return [tuple(group) for group in groups.values()]

    def reader(self, name: str) -> Reader[Inputs]:
        """One of the layers."""
        weight, plan = cast("nn.Linear", self._modules[name]).weight.detach(), self._plans[name]
        return Reader(weight, plan.weights["weight"], plan.input, cast("Inputs", self._flow.statistic(name)))

    def _why_not(self, name: str, readers: Sequence[str]) -> str:
        """Why a module cannot be multiplied by a factor, and these layers divided by it; empty when they can."""
        if not readers:
            return "nobody reads it"
        for reader in readers:
            if why_not := self._why_not_divided(reader):
                return f"{reader!r} {why_not}"
        return self._why_bound(name, *readers) or self._why_not_multiplied(name, readers)

    def _why_not_multiplied(self, name: str, readers: Sequence[str]) -> str:
        """Why the output of a module cannot be multiplied channel by channel, as wide as its readers are."""
        if not self._is_multiplicable(name):
            return f"{name!r} is no norm that has a weight, and no linear layer or convolution"
        widths = {self.reader(reader).weight.shape[1] for reader in readers}
        if widths != {width := self._modules[name].get_parameter("weight").shape[0]}:
            return f"it gives {width} channels, and they take {', '.join(map(str, sorted(widths)))}"
        alternating = torch.tensor([0.5, 2.0]).repeat(width)[:width]
        if not self.takes(name, self._modules[name], alternating):
            return f"the output of {name!r}, tried on a part of its input, is not multiplied with its weight and bias"
        return ""

    def _is_multiplicable(self, name: str) -> bool:
        """Whether it may be a norm, or a layer that computes channels with weights of their own."""
        if may_scale(self._modules[name]):
            return isinstance(self._flow.statistic(name), SomeRows)
        plan = self._plans.get(name)
        may = may_scale_channels(self._modules[name])
        return may and (plan is None or is_scaled_by_rows(plan.weights["weight"]))

    def _refuse_unknown(self) -> None:
        named = dict.fromkeys(name for before, after in self._named.items() for name in (before, *after))
        if unknown := [name for name in named if name not in self._modules]:
            raise ConfigurationError(
                f"readers name {_quoted(unknown)}, which the model has not; a module with several names goes by "
                "the first of them"
            )

    def _watched(self, name: str) -> tuple[str, ...]:
        """All layers that were seen to read what a module gives; none where that is unknown."""
        if not self._is_multiplicable(name):
            return ()
        if may_scale(self._modules[name]):
            return self._flow.consumers(name)
        reader = self._flow.follower(name)
        while reader is not None and type(self._modules[reader]) in THROUGH and not self._why_bound(reader):
            reader = self._flow.follower(reader)
        return () if reader is None else (reader,)

    def _why_not_divided(self, name: str) -> str:
        """Why a layer cannot be divided by a factor of its input, or none be found for it; empty when it can."""
        layer, seen = self._modules[name], self._flow.statistic(name)
        if type(layer) is not nn.Linear or not may_scale_channels(layer):
            return "is no plain nn.Linear"
        if name not in self._plans:
            return "is not quantized"
        if name in self._tied:
            return "shares its weight with another layer"
        if not isinstance(seen, Inputs):
            return "is quantized in another way than the algorithm is for"
        if not seen.is_usable:
            return "was given no data, nothing but zeros, or numbers that are not finite"
        return "has other inputs by an algorithm before this one" if name in self._changed else ""

    def _why_bound(self, before: str, *readers: str) -> str:
        """Which of them has a tensor or a call that is something else's too, or hooks that look at what passes between.

        Empty when none has.
        """
        for name in (before, *readers):
            module = self._modules[name]
            hooks = module._forward_hooks if name == before else {}  # noqa: SLF001 - torch has no public way to ask
            if name in self._tied:
                return f"{name!r} shares its weight with another layer"
            if name in self._used_twice:
                return f"{name!r} is used under several names"
            if hooks or module._forward_pre_hooks:  # noqa: SLF001 - as above
                return f"{name!r} has hooks"
        return ""


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
