"""What every algorithm promises."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor, nn

from mono_quant.core.surgery import copy_with
from mono_quant.core.tensors import same_bits
from mono_quant.plugin_api import Algorithm, AlgorithmSpec, DataFlow, LayerPlan, Plan, Rewrite, Statistic, hookimpl
from mono_quant.quantizer import Quantizer
from mono_quant.testing.models import batches, small_net

__all__ = ["AlgorithmPlugin", "AlgorithmSuite"]


@attrs.frozen
class _Search:
    """What `find` was given, and what it gave."""

    modules: Mapping[str, nn.Module]
    plan: Plan
    flow: DataFlow
    found: Sequence[Rewrite]


class AlgorithmSuite(ABC):
    """Derive a test class from it, write `make` and `models`, and set `name`."""

    name: ClassVar[str]
    """The algorithm's registry name, which its rewrites and files carry."""

    scheme: ClassVar[Any] = "int8-static"
    """What the models are quantized by, as `Quantizer` takes it."""

    rounding: ClassVar[float] = 1e-5
    """How far the outputs of the rewritten float model may be from those of the model, as a part of the largest."""

    @abstractmethod
    def make(self) -> Algorithm:
        """A new algorithm."""

    @abstractmethod
    def models(self) -> Mapping[str, tuple[nn.Module, Sequence[Any]]]:
        """Float models in which it finds something, in eval mode, each with batches, by a name; made anew each time."""

    def other_models(self) -> Mapping[str, tuple[nn.Module, Sequence[Any]]]:
        """Models in which it may find something or nothing, and must keep the function all the same."""
        return {"small-net": (small_net(), batches())}

    def test_it_is_an_algorithm(self) -> None:
        assert isinstance(self.make(), Algorithm), "make() must give a mono_quant.plugin_api.Algorithm"

    def test_it_finds_what_it_is_for(self) -> None:
        for name, (model, data) in self.models().items():
            assert self._search(model, data).found, f"it finds nothing to rewrite in {name}"

    def test_its_rewrites_name_layers_of_the_model(self) -> None:
        for name, model, data in self._all():
            modules = dict(model.named_modules())
            for rewrite in self._search(model, data).found:
                assert isinstance(rewrite, Rewrite), "find() must give Rewrite records"
                assert rewrite.algorithm == self.name, f"a rewrite carries the name {rewrite.algorithm!r}"
                unknown = [layer for layer in rewrite.layers if layer not in modules]
                assert not unknown, f"a rewrite of {name} names {unknown}, which the model does not have"
                assert set(rewrite.removed) <= set(rewrite.layers), "a removed layer must be one of the layers"
                assert set(rewrite.removed.values()) <= set(modules), "removed names the layer that does the work now"

    def test_finding_and_applying_change_nothing(self) -> None:
        for name, model, data in self._all():
            before = _snapshot(model)
            search = self._search(model, data)
            for rewrite in search.found:
                self.make().apply(rewrite, search.modules)
            assert _same(before, _snapshot(model)), f"the model {name} was changed"

    def test_every_rewrite_keeps_the_function(self) -> None:
        for name, model, data in self._all():
            search = self._search(model, data)
            for rewrite in search.found:
                rewritten = copy_with(model, dict(self._applied(rewrite, search.modules)))
                error = self._error(model, rewritten, data)
                assert error <= self.rounding, f"{rewrite.layers} of {name} rewritten, outputs are off by {error:.2g}"

    def test_all_rewrites_together_keep_the_function(self) -> None:
        for name, model, data in self._all():
            search = self._search(model, data)
            modules = dict(search.modules)
            for rewrite in search.found:  # each gets what those before it have made of the layers that it shares
                modules.update(self._applied(rewrite, modules))
            changed = {layer: modules[layer] for rewrite in search.found for layer in rewrite.layers}
            error = self._error(model, copy_with(model, changed), data)
            assert error <= self.rounding, f"all rewrites of {name} done, outputs are off by {error:.2g}"

    def test_where_the_flow_is_not_known_nothing_is_found(self) -> None:
        for name, (model, data) in self.models().items():
            search = self._search(model, data)
            found = self.make().find(search.modules, search.plan, _NothingKnown())
            assert not found, f"it rewrites {name} without knowing which output goes where"

    def test_applying_it_again_gives_the_same(self) -> None:
        for _, model, data in self._all():
            search = self._search(model, data)
            twins = dict(copy.deepcopy(model).named_modules())
            for rewrite in search.found:
                one, other = self._applied(rewrite, search.modules), self._applied(rewrite, twins)
                for layer, module in one.items():
                    assert _same(_snapshot(module), _snapshot(other[layer])), f"applied again, {layer} is another"

    def test_it_finds_the_same_again(self) -> None:
        for _, model, data in self._all():
            assert list(self._search(model, data).found) == list(self._search(model, data).found)

    def test_a_file_repeats_it(self, tmp_path: Path) -> None:
        for name, (model, data) in self.models().items():
            quantizer = self._quantizer(self.make)
            result = quantizer.quantize(model, data)
            result.save(tmp_path / f"{name}.safetensors")
            loaded = quantizer.load(tmp_path / f"{name}.safetensors", model=copy.deepcopy(model))
            same = same_bits(_run(result.model, data[0]), _run(loaded, data[0]))
            assert same, f"{name}, saved and loaded, gives another output"

    def _all(self) -> Iterator[tuple[str, nn.Module, Sequence[Any]]]:
        for name, (model, data) in {**self.models(), **self.other_models()}.items():
            yield name, model, data

    def _applied(self, rewrite: Rewrite, modules: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        applied = self.make().apply(rewrite, modules)
        assert set(applied) <= set(rewrite.layers), "apply() gives modules that its rewrite does not name"
        return applied

    def _error(self, model: nn.Module, rewritten: nn.Module, data: Sequence[Any]) -> float:
        """How far outputs are from those of the model at most, as a part of the largest of a batch."""
        errors = []
        for batch in data:
            expected, found = _run(model, batch), _run(rewritten, batch)
            largest = float(expected.abs().max())
            errors.append(float((expected.double() - found.double()).abs().max()) / (largest or 1.0))
        return max(errors, default=0.0)

    def _search(self, model: nn.Module, data: Sequence[Any]) -> _Search:
        seen: list[_Search] = []
        make = self.make

        class Remembers(Algorithm):
            changes_inputs = make().changes_inputs

            def statistic(self, name: str, module: nn.Module, plan: LayerPlan | None) -> Statistic | None:
                return make().statistic(name, module, plan)

            def find(self, modules: Mapping[str, nn.Module], plan: Plan, flow: DataFlow) -> Sequence[Rewrite]:
                seen.append(_Search(modules, plan, flow, list(make().find(modules, plan, flow))))
                return seen[-1].found

            def apply(self, rewrite: Rewrite, modules: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
                return make().apply(rewrite, modules)

        self._quantizer(Remembers).quantize(model, data)
        return seen[0]

    def _quantizer(self, factory: Any) -> Quantizer:  # noqa: ANN401
        return Quantizer(
            self.scheme, algorithms=[self.name], plugins=[AlgorithmPlugin(self.name, factory)], autoload=False,
            show_progress=False, validators=(),
        )  # fmt: skip


class AlgorithmPlugin:
    """Announces an algorithm that is under test."""

    def __init__(self, name: str, factory: Any) -> None:  # noqa: ANN401
        self._name, self._factory = name, factory

    @hookimpl
    def mono_quant_algorithms(self) -> list[AlgorithmSpec]:
        return [AlgorithmSpec(name=self._name, summary="the algorithm under test", factory=self._factory)]


class _NothingKnown:
    """The flow of a model of which nothing could be watched."""

    def only_consumer(self, name: str) -> str | None:  # noqa: ARG002 - the form of `DataFlow`
        return None

    def consumers(self, name: str) -> tuple[str, ...]:  # noqa: ARG002
        return ()

    def follower(self, name: str) -> str | None:  # noqa: ARG002
        return None

    def output_ndim(self, name: str) -> int | None:  # noqa: ARG002
        return None

    def statistic(self, name: str) -> Statistic | None:  # noqa: ARG002
        return None


def _run(model: nn.Module, batch: Any) -> Tensor:  # noqa: ANN401
    with torch.no_grad():
        output = model(batch)
    assert isinstance(output, Tensor), "the models of the suite must give one tensor"
    return output


def _snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(same_bits(tensor, other[name]) for name, tensor in one.items())
