"""Putting what was watched to the test.

Watching sees what passes through torch functions in one thread. Scripted functions, ``vmap``, other threads and foreign
libraries read tensors unseen. They are found by intervention: the model runs once more with every output whose
consumers are said to be known replaced by NaN, except at these. If anything else reads it, the model gives other bits.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mono_quant.core.dataflow import DataFlowRecorder
from mono_quant.core.scaling import channel_axis, scaled
from mono_quant.core.tensors import iter_tensors, map_tensors, same_bits

__all__ = ["ProvenFlow"]

_Claims = dict[str, tuple[str, ...]]
"""Producer → all its consumers."""
_Claim = TypeVar("_Claim")
_Test = Callable[[dict[str, _Claim]], bool]


class ProvenFlow:
    """The answers of a recorder, each of them tested. The test runs when the first answer is asked for.

    Args:
        model: whose flow was watched.
        watched: what was watched.
        replay: runs the model on a batch and gives its output; deterministic.
    """

    def __init__(self, model: nn.Module, watched: DataFlowRecorder, replay: Callable[[], object]) -> None:
        self._modules = dict(model.named_modules())
        self._watched = watched
        self._replay = replay

    def only_consumer(self, name: str) -> str | None:
        """As `DataFlowRecorder.only_consumer`; None also when that answer failed the test."""
        consumers = self.consumers(name)
        return consumers[0] if len(consumers) == 1 else None

    def consumers(self, name: str) -> tuple[str, ...]:
        """As `DataFlowRecorder.consumers`; empty also when that answer failed the test."""
        return self._proven.get(name, ())

    def output_ndim(self, name: str) -> int | None:
        """As `DataFlowRecorder.output_ndim`."""
        return self._watched.output_ndim(name)

    def follower(self, name: str) -> str | None:
        """As `DataFlowRecorder.follower`, of modules with known channels; None also when that failed its test."""
        return self._scalable.get(name)

    @cached_property
    def _proven(self) -> _Claims:
        return self._tested(self._watched.consumers, self._is_all_that_reads)

    @cached_property
    def _scalable(self) -> dict[str, str]:
        axes = {name: channel_axis(module) for name, module in self._modules.items()}

        def claimed(name: str) -> str | None:
            follower = self._watched.follower(name)
            return None if follower is None or axes[name] is None or axes[follower] is None else follower

        return self._tested(claimed, self._can_be_scaled)

    @cached_property
    def _expected(self) -> list[Tensor]:
        return list(iter_tensors(self._replay()))

    def _tested(self, claimed: Callable[[str], _Claim | None], holds: _Test[_Claim]) -> dict[str, _Claim]:
        claims = {name: claim for name in self._modules if (claim := claimed(name))}
        return self._true_ones(claims, holds) if claims and self._expected else {}

    def _true_ones(self, claims: dict[str, _Claim], holds: _Test[_Claim]) -> dict[str, _Claim]:
        """The claims that hold: all at once where possible, otherwise half by half."""
        if not claims or holds(claims):
            return claims
        half = len(claims) // 2
        if not half:
            return {}
        pairs = list(claims.items())
        return self._true_ones(dict(pairs[:half]), holds) | self._true_ones(dict(pairs[half:]), holds)

    def _is_all_that_reads(self, claims: _Claims) -> bool:
        intervention = _Intervention()
        with intervention.on(self._modules, claims):
            is_same = self._gives_the_same()
        return is_same and intervention.restored == {(name, consumer) for name in claims for consumer in claims[name]}

    def _can_be_scaled(self, claims: dict[str, str]) -> bool:
        with scaled(self._modules, claims) as divided:
            return self._gives_the_same() and divided == claims.keys()

    def _gives_the_same(self) -> bool:
        try:
            actual = list(iter_tensors(self._replay()))
        except Exception:  # noqa: BLE001 - whatever a model raises when it finds what it should not have looked at
            return False
        return len(actual) == len(self._expected) and all(map(same_bits, actual, self._expected))


class _Intervention:
    """Decoys in place of the outputs of some modules, and the true outputs where they are allowed."""

    def __init__(self) -> None:
        self.restored: set[tuple[str, str]] = set()
        self._true: dict[int, tuple[str, Tensor, Tensor]] = {}

    @contextmanager
    def on(self, modules: dict[str, nn.Module], claims: _Claims) -> Iterator[None]:
        """Intervene while this lasts."""
        with ExitStack() as stack:
            for producer in claims:
                stack.callback(modules[producer].register_forward_hook(self._hiding(producer)).remove)
            for consumer in {consumer for consumers in claims.values() for consumer in consumers}:
                show = self._showing(consumer, claims)
                stack.callback(modules[consumer].register_forward_pre_hook(show, prepend=True, with_kwargs=True).remove)
            yield

    def _hiding(self, producer: str) -> Callable[..., Tensor | None]:
        def hook(_: nn.Module, __: tuple[Any, ...], output: object) -> Tensor | None:
            if not isinstance(output, Tensor) or not output.is_floating_point():
                return None
            decoy = output.new_full((), torch.nan).expand(output.shape)
            self._true[id(decoy)] = (producer, decoy, output)
            return decoy

        return hook

    def _showing(self, consumer: str, claims: _Claims) -> Callable[..., tuple[Any, Any]]:
        def truth(tensor: Tensor) -> Tensor:
            producer, _, output = self._true.get(id(tensor), ("", tensor, tensor))
            if consumer not in claims.get(producer, ()):
                return tensor
            self.restored.add((producer, consumer))
            if self.restored.issuperset((producer, other) for other in claims[producer]):
                del self._true[id(tensor)]  # nobody else is to see it
            return output

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
            return map_tensors(truth, args), map_tensors(truth, kwargs)

        return hook
