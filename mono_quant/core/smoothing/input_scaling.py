"""What algorithms have in common that multiply the inputs of linear layers and divide the weights in turn."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Generic, TypeVar, cast

from torch import Tensor, nn

from mono_quant.core.smoothing.inputs import Inputs
from mono_quant.core.smoothing.named_readers import as_readers
from mono_quant.core.smoothing.places import Places, multiplied
from mono_quant.core.smoothing.reader import Reader
from mono_quant.core.smoothing.scaled_layer import is_finite, scaled_channels, with_own_factor
from mono_quant.core.smoothing.scaled_module import SomeRows, may_scale
from mono_quant.plugin_api.algorithm import Algorithm, DataFlow, Statistic
from mono_quant.plugin_api.plan import LayerPlan, Plan, Rewrite

__all__ = ["InputScaling"]

SeenT = TypeVar("SeenT", bound=Inputs)
"""What is collected of the inputs of layers."""

_FACTOR = "input_factor"


class InputScaling(Algorithm, Generic[SeenT]):
    """Finds where a factor can go, for ``nn.Linear``; a subclass finds the factor.

    Where the watched flow proves that all who read the module before are such layers, and its output scales with its
    ``weight`` and ``bias``, as that of a norm or of a linear layer does, these take the factor, which then costs
    nothing. Elsewhere the layer multiplies its input itself.

    Args:
        insert: whether layers may multiply their own inputs, where nothing before them can take the factor.
        readers: module → names of all layers that read its output, for modules of which watching does not tell.
    """

    name: ClassVar[str]
    changes_inputs = True

    def __init__(self, *, insert: bool, readers: Mapping[str, Sequence[str]] | None) -> None:
        self._insert = insert
        self._readers = as_readers(readers)
        self.checks_every_batch = bool(self._readers)

    @abstractmethod
    def inputs(self, layer: nn.Linear, plan: LayerPlan) -> SeenT | None:
        """What to collect of the inputs of a layer; None to leave the layer alone."""

    @abstractmethod
    def factor(self, readers: Sequence[Reader[SeenT]], *, is_free: bool) -> Tensor | None:
        """What the input of these layers is to be multiplied by, float32 ``(K,)``; None for nothing.

        Args:
            readers: all layers that read it.
            is_free: whether something before them takes it.
        """

    def statistic(self, name: str, module: nn.Module, plan: LayerPlan | None) -> Statistic | None:
        """What `inputs` gives for layers, and some rows for what might take a factor."""
        del name
        if plan is not None:
            return self.inputs(module, plan) if type(module) is nn.Linear else None
        return SomeRows() if may_scale(module) else None

    def find(self, modules: Mapping[str, nn.Module], plan: Plan, flow: DataFlow) -> Sequence[Rewrite]:
        """One rewrite for each module that takes a factor with its readers, and for each layer that has its own."""
        places = Places(modules, plan, flow, self._readers)
        found: list[Rewrite] = []
        settled: set[str] = set()
        for before, readers in places.before():
            factor = self._factor(places, readers, is_free=True)
            if factor is None:
                settled.update(readers)
            elif places.takes(before, modules[before], factor):
                found.append(self._rewrite((before, *readers), factor))
                settled.update(readers)
        for names in places.by_input(set(plan.layers) - settled) if self._insert else ():
            factor = self._factor(places, names, is_free=False)
            if factor is not None:
                found += [self._rewrite((name,), factor) for name in names]
        return [rewrite for rewrite in found if all(map(is_finite, self.apply(rewrite, modules).values()))]

    def apply(self, rewrite: Rewrite, modules: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        """The module before with the factor and its readers with what undoes it; or a layer that has its own."""
        factor = rewrite.values.get(_FACTOR)
        if len(rewrite.layers) == 1:
            (name,) = rewrite.layers
            return {name: with_own_factor(cast("nn.Linear", modules[name]), factor)}
        if factor is None:  # a file is loaded, which has the tensors: no layer becomes one of another kind
            return {}
        before, *readers = rewrite.layers
        divisor = factor.double().reciprocal()
        undone = {name: scaled_channels(modules[name], before=divisor) for name in readers}
        return {before: multiplied(modules[before], factor), **undone}

    def _factor(self, places: Places, names: Sequence[str], *, is_free: bool) -> Tensor | None:
        readers = [cast("Reader[SeenT]", places.reader(name)) for name in names]  # `inputs` collects nothing else
        return self.factor(readers, is_free=is_free)

    def _rewrite(self, layers: tuple[str, ...], factor: Tensor) -> Rewrite:
        return Rewrite(algorithm=self.name, layers=layers, removed={}, values={_FACTOR: factor})
