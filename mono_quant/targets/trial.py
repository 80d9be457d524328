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

    A layer inside of another one, as the projection behind attention is, goes with that.

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
        self._holder = copy_with(_Holder(model), {_inside(name): layer for name, layer in rewritten.items()})
        modules = dict(self._holder.named_modules(remove_duplicate=False))
        self._inner = {
            name: tuple(other for other in layers if other.startswith(f"{name}.") or (not name and other))
            for name in layers
        }
        within = {other for inner in self._inner.values() for other in inner}
        self.layers = tuple(name for name in layers if name not in within)
        """The layers that are chosen for."""
        self.free = tuple(name for name in self.layers if not {name, *self._inner[name]} & set(bound))
        """Those that can be chosen for one by one: all but those that share a weight."""
        self._ways: dict[str, dict[str, nn.Module]] = {name: {FLOAT: modules[_inside(name)]} for name in self.layers}
        self._now = dict.fromkeys(self.layers, FLOAT)
        self.add(ASKED, layers)
        self._batches = batches
        self._float = [run_once(model, batch) for batch in batches]

    def inner(self, name: str) -> tuple[str, ...]:
        """The layers inside of a layer, which go with it."""
        return self._inner[name]

    def add(self, way: str, layers: Mapping[str, nn.Module]) -> None:
        """One more way of some layers: layer → quantized layer."""
        whole = {
            name: copy_with(layers[name], {other[len(name) :].lstrip("."): layers[other] for other in inner})
            if (inner := [other for other in self._inner[name] if other in layers])
            else layers[name]
            for name in self.layers
            if name in layers
        }
        for name, layer in copy.deepcopy(whole).items():  # all at once, so that shared weights stay so
            self._ways[name][way] = layer

    def choose(self, wanted: Mapping[str, str]) -> nn.Module:
        """The model with these ways: layer → way; layers that are not named are float."""
        target = {name: wanted.get(name, FLOAT) for name in self.layers}
        changes = {name: way for name, way in target.items() if self._now[name] != way}
        put_in_place(self._holder, {_inside(name): self._ways[name][way] for name, way in changes.items()})
        leave_fast_paths(self._holder, [_inside(name) for name, way in target.items() if way != FLOAT])
        self._now.update(changes)
        return cast("nn.Module", self._holder.model).eval()

    def ways(self, name: str) -> tuple[str, ...]:
        """What a layer can have, what the run makes of it first and ``"float"`` last."""
        return (*(way for way in self._ways[name] if way != FLOAT), FLOAT)

    def with_all(self, changed: Mapping[str, str]) -> dict[str, str]:
        """The choice of all layers as asked for, but for these."""
        return {**dict.fromkeys(self.layers, ASKED), **changed}

    def nbytes(self, name: str, way: str) -> int:
        """Bytes of a layer's tensors."""
        return sum(tensor.nbytes for tensor in self._ways[name][way].state_dict().values())

    @property
    def count(self) -> int:
        """How many batches outputs are compared on."""
        return len(self._batches)

    @property
    def has_float_outputs(self) -> bool:
        """Whether the model's output holds float tensors, to compare."""
        return any(x.is_floating_point() for outputs in self._float for x in outputs)

    def sqnr_db(self, wanted: Mapping[str, str], batches: int | None = None) -> float:
        """SQNR of the output with these ways over the batches; ``-inf`` where it is not finite."""
        return self.sqnr_of(self.choose(wanted), batches)

    def sqnr_of(self, model: nn.Module, batches: int | None = None) -> float:
        """The same of a model that is not one of the trial's.

        Raises:
            CalibrationError: when the output holds no float tensors.
        """
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
