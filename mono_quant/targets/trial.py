"""A model any of whose layers can be quantized in one of several ways, or not, to be measured."""

import copy
import math
from collections.abc import Collection, Mapping, Sequence
from typing import cast

from torch import Tensor, nn

from mono_quant.core.sqnr import sum_sqnr_db, without_common_infinities
from mono_quant.core.surgery import copy_with, put_in_place
from mono_quant.errors import CalibrationError
from mono_quant.io.checks import run_once
from mono_quant.modules import leave_fast_paths
from mono_quant.plugin_api import Batch
from mono_quant.targets.record import ASKED, FLOAT

__all__ = ["Trial", "total_bytes"]


class Trial:
    """A copy of a float model in which layers are exchanged.

    Args:
        model: the float model; it is copied.
        rewritten: name → the float layer after the plan's rewrites, for those that have any.
        layers: layer → the quantized layer that the run makes of it.
        batches: what outputs are compared on.
        bound: layers that cannot be chosen for one by one.
    """

    def __init__(
        self,
        model: nn.Module,
        rewritten: Mapping[str, nn.Module],
        layers: Mapping[str, nn.Module],
        batches: Sequence[Batch],
        bound: Collection[str] = (),
    ) -> None:
        holder = _Holder(model)
        copied = copy_with(holder, {_inside(name): layer for name, layer in rewritten.items()})
        self._holder = copied
        modules = dict(copied.named_modules(remove_duplicate=False))
        self._ways = {
            name: {FLOAT: modules[_inside(name)], ASKED: copy.deepcopy(layer)} for name, layer in layers.items()
        }
        self._free = tuple(name for name in layers if name not in bound)
        self._now = dict.fromkeys(layers, FLOAT)
        self._batches = batches
        self._float = [run_once(model, batch) for batch in batches]

    def add(self, way: str, layers: Mapping[str, nn.Module]) -> None:
        """One more way of some layers: layer → quantized layer."""
        for name, layer in layers.items():
            self._ways[name][way] = copy.deepcopy(layer)

    def choose(self, wanted: Mapping[str, str]) -> nn.Module:
        """The model with these ways: layer → way; layers that are not named are float."""
        target = {name: wanted.get(name, FLOAT) for name in self._ways}
        changes = {name: way for name, way in target.items() if self._now[name] != way}
        put_in_place(self._holder, {_inside(name): self._ways[name][way] for name, way in changes.items()})
        leave_fast_paths(self._holder, [_inside(name) for name, way in target.items() if way != FLOAT])
        self._now.update(changes)
        return cast("nn.Module", self._holder.model).eval()

    @property
    def free(self) -> tuple[str, ...]:
        """The layers that can be chosen for one by one: all but those that share a weight."""
        return self._free

    def ways(self, name: str) -> tuple[str, ...]:
        """What a layer can have, what the run makes of it first and ``"float"`` last."""
        return (*(way for way in self._ways[name] if way != FLOAT), FLOAT)

    def nbytes(self, name: str, way: str) -> int:
        """Bytes of a layer's tensors."""
        return sum(tensor.nbytes for tensor in self._ways[name][way].state_dict().values())

    def with_all(self, changed: Mapping[str, str]) -> dict[str, str]:
        """The choice of all layers as asked for, but for these."""
        return {**dict.fromkeys(self._ways, ASKED), **changed}

    def sqnr_db(self, wanted: Mapping[str, str], batches: int | None = None) -> float:
        """SQNR of the output with these ways over the batches; ``-inf`` where it is not finite."""
        return self.sqnr_of(self.choose(wanted), batches)

    def sqnr_of(self, model: nn.Module, batches: int | None = None) -> float:
        """The same of a model that is not one of the trial's."""
        pairs: list[tuple[Tensor, Tensor]] = []
        for batch, expected in list(zip(self._batches, self._float, strict=True))[:batches]:
            actual = run_once(model, batch)
            if [x.shape for x in actual] != [x.shape for x in expected]:
                return -math.inf
            both = zip(expected, actual, strict=True)
            pairs += [without_common_infinities(x, y) for x, y in both if x.is_floating_point()]
        if not pairs:
            raise CalibrationError("the model's output holds no float tensors: give a metric to measure it by")
        value = sum_sqnr_db(pairs)
        return -math.inf if math.isnan(value) else value


def total_bytes(model: nn.Module) -> float:
    """Bytes of a model's tensors, each shared one once."""
    tensors = (tensor for tensor in model.state_dict().values() if isinstance(tensor, Tensor))
    return float(sum({(tensor.data_ptr(), tensor.nbytes): tensor.nbytes for tensor in tensors}.values()))


def _inside(name: str) -> str:
    """The name of a layer of the model in its holder."""
    return f"model.{name}".rstrip(".")


class _Holder(nn.Module):
    """Around a model, which may itself be a single layer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training
