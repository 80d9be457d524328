"""Algorithms with one bug each."""

import copy
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import attrs
import torch
from torch import nn

from mono_quant.core.batchnorm import BatchNormFold
from mono_quant.plugin_api import Algorithm, DataFlow, Plan, Rewrite
from mono_quant.testing import AlgorithmSuite
from mono_quant.testing.models import batches, small_net

FINDS: dict[type[AlgorithmSuite], str] = {}


def planted(test: str, models: Any = lambda self: {"small-net": (small_net(), batches())}) -> Any:
    def wrap(algorithm: type[Algorithm]) -> type[Algorithm]:
        members = {
            "name": "bn-fold",
            "models": models,
            "make": lambda self: algorithm(),
            "__module__": __name__,
        }
        suite = type(f"Test{algorithm.__name__}", (AlgorithmSuite,), members)
        globals()[suite.__name__] = suite
        FINDS[suite] = test
        return algorithm

    return wrap


@planted("test_where_the_flow_is_not_known_nothing_is_found")
class GoesByNeighbours(BatchNormFold):
    def find(self, modules: Mapping[str, nn.Module], plan: Plan, flow: DataFlow) -> Sequence[Rewrite]:
        return [
            Rewrite(algorithm="bn-fold", layers=(one, other), removed={other: one})
            for one, other in pairwise(modules)
            if isinstance(modules[one], nn.Conv1d) and isinstance(modules[other], nn.BatchNorm1d)
        ]


@planted("test_every_rewrite_keeps_the_function")
class ForgetsTheMean(BatchNormFold):
    def apply(self, rewrite: Rewrite, modules: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        applied = dict(super().apply(rewrite, modules))
        conv = applied[rewrite.layers[0]]
        conv.bias = nn.Parameter(conv.bias + 0.1, requires_grad=False)
        return applied


@planted("test_finding_and_applying_change_nothing")
class FoldsInPlace(BatchNormFold):
    def apply(self, rewrite: Rewrite, modules: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        applied = super().apply(rewrite, modules)
        with torch.no_grad():
            modules[rewrite.layers[0]].weight.mul_(2)
        return applied


@planted("test_its_rewrites_name_layers_of_the_model")
class SignsAsAnother(BatchNormFold):
    def find(self, modules: Mapping[str, nn.Module], plan: Plan, flow: DataFlow) -> Sequence[Rewrite]:
        return [attrs.evolve(r, algorithm="bn-fold-2") for r in super().find(modules, plan, flow)]


@planted("test_it_finds_what_it_is_for")
class FindsNothing(BatchNormFold):
    def find(self, modules: Mapping[str, nn.Module], plan: Plan, flow: DataFlow) -> Sequence[Rewrite]:
        return []


@planted("test_applying_it_again_gives_the_same")
class AppliesAtRandom(BatchNormFold):
    def apply(self, rewrite: Rewrite, modules: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        applied = dict(super().apply(rewrite, modules))
        conv = applied[rewrite.layers[0]]
        conv.bias = nn.Parameter(conv.bias + 1e-9 * torch.rand(1), requires_grad=False)
        conv.weight = nn.Parameter(conv.weight * (1 + 1e-7 * torch.randint(3, (1,))), requires_grad=False)
        return applied


def three_layers(self: AlgorithmSuite) -> dict[str, Any]:
    torch.manual_seed(0)
    return {"three layers": (nn.Sequential(*(nn.Linear(4, 4) for _ in range(3))).eval(), [torch.randn(5, 4)])}


@planted("test_all_rewrites_together_keep_the_function", three_layers)
class KeepsWholeLayersInTheRewrite(Algorithm):
    def find(self, modules: Mapping[str, nn.Module], plan: Plan, flow: DataFlow) -> Sequence[Rewrite]:
        return [self._doubled(one, flow.only_consumer(one), modules) for one in modules if flow.only_consumer(one)]

    def apply(self, rewrite: Rewrite, modules: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        applied = {name: copy.deepcopy(modules[name]) for name in rewrite.layers}
        for name, tensor in rewrite.values.items():
            layer, _, parameter = name.rpartition(".")
            setattr(applied[layer], parameter, nn.Parameter(tensor, requires_grad=False))
        return applied

    def _doubled(self, one: str, other: str, modules: Mapping[str, nn.Module]) -> Rewrite:
        first, second = modules[one], modules[other]
        values = {
            f"{one}.weight": first.weight * 2,
            f"{one}.bias": first.bias * 2,
            f"{other}.weight": second.weight / 2,
        }
        values = {name: tensor.detach() for name, tensor in values.items()}
        return Rewrite(algorithm="bn-fold", layers=(one, other), removed={}, values=values)
