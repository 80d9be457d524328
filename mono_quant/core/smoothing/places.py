"""Which linear layers read the same tensor, and what before them can take a factor of its channels."""

from collections.abc import Collection, Iterator, Mapping, Sequence
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
        self._given = readers
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
        for name, module in self._modules.items():
            readers = self._given.get(name) or self._readers(name)
            if (
                self._can_be(readers)
                and not self._are_bound(name, *readers)
                and self._may_take_one(name, module, readers)
            ):
                yield name, readers
            elif name in self._given:
                raise ConfigurationError(
                    f"{name!r} cannot take a factor for {', '.join(map(repr, readers))}: it has to be a norm or a "
                    "linear layer whose output they read as it is; they have to be nn.Linear, quantized, and given "
                    "data; and none of them may share its weight, run twice in a batch, or have hooks"
                )

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
            if name in names and self._can_be((name,)):
                groups.setdefault(self.reader(name).inputs.fingerprint, []).append(name)
        return [tuple(group) for group in groups.values()]

    def reader(self, name: str) -> Reader[Inputs]:
        """One of the layers."""
        weight, plan = cast("nn.Linear", self._modules[name]).weight.detach(), self._plans[name]
        return Reader(weight, plan.weights["weight"], plan.input, cast("Inputs", self._flow.statistic(name)))

    def _may_take_one(self, name: str, module: nn.Module, readers: Sequence[str]) -> bool:
        width, *others = {self.reader(reader).weight.shape[1] for reader in readers}
        alternating = torch.tensor([0.5, 2.0]).repeat(width)[:width]
        is_as_wide = not others and self._is_a_place(name) and module.get_parameter("weight").shape[0] == width
        return is_as_wide and self.takes(name, module, alternating)

    def _is_a_place(self, name: str) -> bool:
        may_be = may_scale(self._modules[name]) and isinstance(self._flow.statistic(name), SomeRows)
        return may_be or self._may_scale_channels(name)

    def _refuse_unknown(self) -> None:
        named = dict.fromkeys(name for before, after in self._given.items() for name in (before, *after))
        if unknown := [name for name in named if name not in self._modules]:
            raise ConfigurationError(f"readers name {', '.join(map(repr, unknown))}, which the model has not")

    def _readers(self, name: str) -> tuple[str, ...]:
        """All layers that read what a module gives; none where it cannot take a factor."""
        if may_scale(self._modules[name]):
            return self._flow.consumers(name) if isinstance(self._flow.statistic(name), SomeRows) else ()
        if not self._may_scale_channels(name):
            return ()
        reader = self._flow.follower(name)
        while reader is not None and type(self._modules[reader]) in THROUGH and not self._are_bound(reader):
            reader = self._flow.follower(reader)
        return () if reader is None else (reader,)

    def _may_scale_channels(self, name: str) -> bool:
        plan = self._plans.get(name)
        may = may_scale_channels(self._modules[name])
        return may and (plan is None or is_scaled_by_rows(plan.weights["weight"]))

    def _can_be(self, readers: Sequence[str]) -> bool:
        """Whether a factor can be found for all of these; at least one."""
        return bool(readers) and all(map(self._may_have_one, readers))

    def _may_have_one(self, name: str) -> bool:
        """Whether this is a layer whose inputs were seen, as it still gets them, and whose weight is its own."""
        seen = self._flow.statistic(name)
        layer = self._modules[name]
        is_seen = isinstance(seen, Inputs) and seen.is_usable and name not in self._changed
        is_for = type(layer) is nn.Linear and may_scale_channels(layer)
        return is_seen and is_for and name in self._plans and name not in self._tied

    def _are_bound(self, before: str, *readers: str) -> bool:
        """Whether their tensors or calls are those of something else too, or hooks look at what passes between them."""
        hooks = [
            *self._modules[before]._forward_hooks,  # noqa: SLF001 - torch has no public way to ask
            *(hook for name in (before, *readers) for hook in self._modules[name]._forward_pre_hooks),  # noqa: SLF001
        ]
        return bool(hooks) or not (self._tied | self._used_twice).isdisjoint((before, *readers))
