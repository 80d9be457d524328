"""Algorithms that refine with one bug each, but for the first, which is right."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mono_quant.plugin_api import Algorithm, LayerPlan, QuantizedLayer, Rewrite, Statistic
from mono_quant.testing import RefinementSuite
from mono_quant.testing.models import FEATURES

FINDS: dict[type[RefinementSuite], str] = {}


def planted(test: str) -> Any:
    def wrap(algorithm: type[Algorithm]) -> type[Algorithm]:
        members = {
            "name": "unbias",
            "cases": lambda self: {"linear": ("int8-dynamic", _linear(), _batches())},
            "make": lambda self: algorithm(),
            "__module__": __name__,
        }
        suite = type(f"Test{algorithm.__name__}", (RefinementSuite,), members)
        globals()[suite.__name__] = suite
        FINDS[suite] = test
        return algorithm

    return wrap


def _linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, 6), nn.Linear(6, 4)).eval()


def _batches() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(8, FEATURES, generator=generator) + 3 for _ in range(3)]


class Mean:
    def __init__(self) -> None:
        self.total, self.rows = 0.0, 0

    def __call__(self, x: Tensor) -> None:
        self.total, self.rows = self.total + x.double().sum(0), self.rows + len(x)


@planted("")
class Unbias(Algorithm):
    """What the codes of the weight put into the outputs' mean is taken out of the bias."""

    def statistic(self, name: str, module: nn.Module, plan: LayerPlan | None) -> Statistic | None:
        return Mean()

    def find(self, *watched: object) -> list[Rewrite]:
        return []

    def apply(self, *rewrite: object) -> dict[str, nn.Module]:
        return {}

    def refine(
        self, layer: nn.Module, quantized: QuantizedLayer, plan: LayerPlan, statistic: Statistic | None
    ) -> Mapping[str, Tensor]:
        if not isinstance(statistic, Mean):
            return {}
        mean = statistic.total / statistic.rows
        shift = (layer.weight.detach().double() - quantized.dequantized().double()) @ mean
        return {"bias": (layer.bias.detach().double() + shift).float()}


@planted("test_beside_one_that_may_change_inputs_it_gives_the_same")
class WantsToBeAskedFirst(Unbias):
    only_refines = True

    def __init__(self) -> None:
        self.was_asked = False

    def find(self, *watched: object) -> list[Rewrite]:
        self.was_asked = True
        return []

    def refine(self, *given: Any) -> Mapping[str, Tensor]:
        return super().refine(*given) if self.was_asked else {}


@planted("test_no_layer_gets_worse_on_the_data")
class ShiftsTheOtherWay(Unbias):
    def refine(self, layer: nn.Module, quantized: QuantizedLayer, *given: Any) -> Mapping[str, Tensor]:
        found = super().refine(layer, quantized, *given)
        return {name: 2 * layer.bias.detach() - tensor for name, tensor in found.items()}


@planted("test_it_changes_nothing_that_it_is_given")
class WritesIntoTheFloatLayer(Unbias):
    def refine(self, layer: nn.Module, *given: Any) -> Mapping[str, Tensor]:
        found = super().refine(layer, *given)
        layer.bias.data.add_(1e-3)
        return found


@planted("test_it_changes_nothing_that_it_is_given")
class RefinesInPlace(Unbias):
    def refine(self, layer: nn.Module, quantized: QuantizedLayer, *given: Any) -> Mapping[str, Tensor]:
        found = super().refine(layer, quantized, *given)
        for tensor in found.values():
            quantized.bias.data.copy_(tensor)
        return found


@planted("test_its_tensors_can_take_the_place_of_the_layers")
class GivesFloat64(Unbias):
    def refine(self, *given: Any) -> Mapping[str, Tensor]:
        return {name: tensor.double() for name, tensor in super().refine(*given).items()}


@planted("test_its_tensors_can_take_the_place_of_the_layers")
class NamesWhatIsNotThere(Unbias):
    def refine(self, *given: Any) -> Mapping[str, Tensor]:
        return {f"{name}_shift": tensor for name, tensor in super().refine(*given).items()}


@planted("test_refining_again_gives_the_same")
class UsesItsStatisticUp(Unbias):
    def refine(
        self, layer: nn.Module, quantized: QuantizedLayer, plan: LayerPlan, statistic: Statistic | None
    ) -> Mapping[str, Tensor]:
        found = super().refine(layer, quantized, plan, statistic)
        if isinstance(statistic, Mean):
            statistic.total = statistic.total * 0
        return found


@planted("test_the_same_data_give_the_same")
class IsSlightlyRandom(Unbias):
    def statistic(self, name: str, module: nn.Module, plan: LayerPlan | None) -> Statistic | None:
        found = Mean()
        found.total = torch.rand(1).double()
        return found


@planted("test_it_does_without_data")
class NeedsDataAndDoesNotAsk(Unbias):
    def refine(
        self, layer: nn.Module, quantized: QuantizedLayer, plan: LayerPlan, statistic: Statistic | None
    ) -> Mapping[str, Tensor]:
        shift = 1e-3 if statistic is None else 0.0
        return super().refine(layer, quantized, plan, statistic) or {"bias": layer.bias.detach() + shift}


@planted("test_it_refines_what_it_is_for")
class FindsNothing(Unbias):
    def refine(self, *given: Any) -> Mapping[str, Tensor]:
        return {}


@planted("test_it_is_an_algorithm_that_refines")
class RewritesOnly(Unbias):
    refine = Algorithm.refine


@planted("test_the_statistic_leaves_inputs_as_they_are")
class CentresInputs(Unbias):
    def statistic(self, name: str, module: nn.Module, plan: LayerPlan | None) -> Statistic | None:
        class Centres(Mean):
            def __call__(self, x: Tensor) -> None:
                super().__call__(x.clone())
                x.data.sub_(x.mean())

        return Centres()
