"""What every algorithm promises that refines quantized layers."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor, nn

from mono_quant.core.tensors import same_bits
from mono_quant.modules import QuantizedModule
from mono_quant.plugin_api import Algorithm, DataFlow, LayerPlan, Plan, QuantizedLayer, Refinement, Rewrite, Statistic
from mono_quant.quantizer import Quantizer
from mono_quant.testing.algorithms import AlgorithmPlugin

__all__ = ["RefinementSuite"]


@attrs.frozen(eq=False)
class _Case:
    """What `refine` was given for one layer."""

    where: str
    algorithm: Algorithm
    layer: nn.Module
    quantized: QuantizedLayer
    plan: LayerPlan
    inputs: "_Inputs"

    def refine(self) -> dict[str, Tensor]:
        return dict(self.algorithm.refine(self.layer, self.quantized, self.plan, self.inputs.statistic))

    def refined(self, found: Mapping[str, Tensor]) -> nn.Module:
        """A copy of the quantized layer with other tensors."""
        layer = copy.deepcopy(self.quantized)
        with torch.no_grad():
            for name, tensor in found.items():
                _tensors(layer)[name].copy_(tensor)
        return layer

    def error(self, quantized: nn.Module) -> float:
        """The mean square of what the outputs are off, over all inputs that were watched.

        What rounding the inputs adds is left out where that is possible: it may go either way.
        """
        quantized = quantized.to_float({}) if isinstance(quantized, QuantizedModule) else quantized
        squares, count = 0.0, 0
        with torch.no_grad():
            for x in self.inputs.seen:
                off = self.layer(x).double() - quantized(x).double()
                squares, count = squares + float(off.square().sum()), count + off.numel()
        return squares / max(1, count)


class _Inputs:
    """Keeps all inputs of a layer, and hands them on to the algorithm's own statistic."""

    def __init__(self, statistic: Statistic | None) -> None:
        self.statistic = statistic
        self.seen: list[Tensor] = []

    def __call__(self, x: Tensor) -> None:
        self.seen.append(x.clone())
        if self.statistic is not None:
            self.statistic(x)


class _MayChangeInputs(Refinement):
    """Has the data read a second time where that has to wait for it, and changes nothing."""

    changes_inputs = True

    def refine(
        self, layer: nn.Module, quantized: QuantizedLayer, plan: LayerPlan, statistic: Statistic | None
    ) -> Mapping[str, Tensor]:
        del layer, quantized, plan, statistic
        return {}


class RefinementSuite(ABC):
    """Derive a test class from it, write `make` and `cases`, and set `name`.

    An algorithm that also rewrites the float model has a class from `AlgorithmSuite` too.
    """

    name: ClassVar[str]
    """The algorithm's registry name."""

    needs_data: ClassVar[bool] = True
    """Whether it refines nothing where it has seen no inputs."""

    slack: ClassVar[float] = 0.001
    """How much worse, as a part of it, the error of a layer's outputs on the data may get: by rounding of sums."""

    @abstractmethod
    def make(self) -> Algorithm:
        """A new algorithm."""

    @abstractmethod
    def cases(self) -> Mapping[str, tuple[Any, nn.Module, Sequence[Any]]]:
        """Schemes, as `Quantizer` takes them, each with a float model and batches; by a name; made anew each time.

        The models are in eval mode, and it finds something better in each.
        """

    def test_it_is_an_algorithm_that_refines(self) -> None:
        algorithm = self.make()
        assert isinstance(algorithm, Algorithm), "make() must give a mono_quant.plugin_api.Algorithm"
        assert type(algorithm).refine is not Algorithm.refine, "it has no refine() of its own"

    def test_it_refines_what_it_is_for(self) -> None:
        for name in self.cases():
            changed = [key for case in self._seen(name) for key, tensor in case.refine().items()
                       if not same_bits(tensor, _tensors(case.quantized)[key])]  # fmt: skip
            assert changed, f"it changes nothing in {name}"

    def test_its_tensors_can_take_the_place_of_the_layers(self) -> None:
        for case in self._all():
            own = _tensors(case.quantized)
            for key, tensor in case.refine().items():
                assert key in own, f"{case.where} has no {key!r}"
                same = (tensor.shape, tensor.dtype) == (own[key].shape, own[key].dtype)
                assert same, f"{key!r} of {case.where} has another shape or dtype than the layer's"
                finite = not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
                assert finite, f"{key!r} of {case.where} is not finite"

    def test_it_changes_nothing_that_it_is_given(self) -> None:
        for case in self._all():
            layers = (case.layer, case.quantized)
            before = [_snapshot(layer) for layer in layers]
            case.refine()
            assert _same(before[0], _snapshot(layers[0])), f"the float layer of {case.where} was changed"
            assert _same(before[1], _snapshot(layers[1])), f"the quantized layer of {case.where} was changed"

    def test_refining_again_gives_the_same(self) -> None:
        for case in self._all():
            assert _same(case.refine(), case.refine()), f"{case.where}, refined again, has other tensors"

    def test_the_same_data_give_the_same(self) -> None:
        for name in self.cases():
            for one, other in zip(self._seen(name), self._seen(name, seed=1), strict=True):
                assert _same(one.refine(), other.refine()), f"{one.where} has other tensors on the same data"

    def test_no_layer_gets_worse_on_the_data(self) -> None:
        for case in self._all():
            before, after = case.error(case.quantized), case.error(case.refined(case.refine()))
            assert after <= before * (1 + self.slack), f"{case.where} is off by {after:.3g}, unrefined by {before:.3g}"

    def test_beside_one_that_may_change_inputs_it_gives_the_same(self) -> None:
        for name, (scheme, model, data) in self.cases().items():
            alone = self._quantizer(scheme, self.make).quantize(model, data)
            beside = self._quantizer(scheme, self.make, {"may-change-inputs": _MayChangeInputs}).quantize(model, data)
            assert _same(_snapshot(alone.model), _snapshot(beside.model)), (
                f"{name} has other tensors where the data are read twice"
            )

    def test_it_does_without_data(self) -> None:
        for case in self._all():
            found = case.algorithm.refine(case.layer, case.quantized, case.plan, None)
            if self.needs_data:
                assert _is_what_it_was(found, case.quantized), f"without data it changes {case.where}; see needs_data"
            case.refined(found)

    def test_the_statistic_leaves_inputs_as_they_are(self) -> None:
        for case in self._all():
            statistic = case.inputs.statistic
            if statistic is None:
                continue
            for x in case.inputs.seen:
                before = x.clone()
                statistic(x)
                assert same_bits(x, before), f"the statistic of {case.where} wrote into an input"

    def test_the_float_model_stays(self) -> None:
        for name, (scheme, model, data) in self.cases().items():
            before = _snapshot(model)
            self._quantizer(scheme, self.make).quantize(model, data)
            assert _same(before, _snapshot(model)), f"the float model of {name} was changed"

    def test_a_file_has_what_was_found(self, tmp_path: Path) -> None:
        for name, (scheme, model, data) in self.cases().items():
            quantizer = self._quantizer(scheme, self.make)
            result = quantizer.quantize(model, data)
            result.save(tmp_path / f"{name}.safetensors")
            loaded = quantizer.load(tmp_path / f"{name}.safetensors", model=copy.deepcopy(model))
            assert _same(_snapshot(result.model), _snapshot(loaded)), f"{name}, saved and loaded, has other tensors"

    def _all(self) -> list[_Case]:
        return [case for name in self.cases() for case in self._seen(name)]

    def _seen(self, name: str, seed: int = 0) -> list[_Case]:
        """The layers of a case before anything was refined."""
        scheme, model, data = self.cases()[name]
        torch.manual_seed(seed)  # what is random comes out otherwise with another
        seen: list[_Case] = []
        algorithm = self.make()

        class Remembers(Algorithm):
            changes_inputs = algorithm.changes_inputs
            only_refines = algorithm.only_refines

            def statistic(self, name: str, module: nn.Module, plan: LayerPlan | None) -> Statistic | None:
                return _Inputs(algorithm.statistic(name, module, plan))

            def find(self, modules: Mapping[str, nn.Module], plan: Plan, flow: DataFlow) -> Sequence[Rewrite]:
                return algorithm.find(modules, plan, flow)

            def apply(self, rewrite: Rewrite, modules: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
                return algorithm.apply(rewrite, modules)

            def refine(
                self, layer: nn.Module, quantized: QuantizedLayer, plan: LayerPlan, statistic: Statistic | None
            ) -> Mapping[str, Tensor]:
                assert isinstance(statistic, _Inputs)
                where = f"layer {plan.name!r} of {name}"
                seen.append(_Case(where, algorithm, layer, copy.deepcopy(quantized), plan, statistic))
                return {}

        self._quantizer(scheme, Remembers).quantize(model, data)
        assert seen, f"{name} has no layer to refine"
        return seen

    def _quantizer(self, scheme: Any, factory: Any, before: Mapping[str, Any] | None = None) -> Quantizer:  # noqa: ANN401
        algorithms = {**(before or {}), self.name: factory}
        return Quantizer(
            scheme, algorithms=[*algorithms], plugins=[AlgorithmPlugin(*one) for one in algorithms.items()],
            autoload=False, show_progress=False, validators=(),
        )  # fmt: skip


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}


def _snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(same_bits(tensor, other[name]) for name, tensor in one.items())


def _is_what_it_was(found: Mapping[str, Tensor], quantized: nn.Module) -> bool:
    own = _tensors(quantized)
    return all(same_bits(tensor, own[name].detach()) for name, tensor in found.items())
