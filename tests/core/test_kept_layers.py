"""Which layers int8-static leaves in float, and the reasons it gives."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils import weight_norm as old_weight_norm

from mono_quant.core.schemes import Int8Static
from mono_quant.plugin_api.plan import Keep, LayerPlan

COMPUTED = "its weight is computed, not a parameter (parametrized or weight-normalised); remove that first"


def plan_of(layer: nn.Module) -> LayerPlan:
    plan = Int8Static().plan("some.layer", layer)
    assert isinstance(plan, LayerPlan)
    return plan


def reason_for(layer: nn.Module) -> str:
    kept = Int8Static().plan("some.layer", layer)
    assert isinstance(kept, Keep)
    return kept.reason


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.Embedding(3, 4), nn.ConvTranspose2d(3, 4, 2), nn.Bilinear(2, 2, 2)])
def test_other_layers_are_kept(layer: nn.Module):
    assert reason_for(layer) == f"int8-static does not quantize {type(layer).__name__}"


class OwnForward(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


class OwnConvForward(nn.Conv1d):
    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, weight * 2, bias)


class OwnCall(nn.Conv2d):
    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x) * 2


class OwnName(nn.Linear):
    pass


@pytest.mark.parametrize(
    ("layer", "overridden"),
    [
        (OwnForward(2, 2), "Linear.forward"),
        (OwnConvForward(2, 2, 1), "Conv1d._conv_forward"),
        (OwnCall(2, 2, 1), "Conv2d.__call__"),
    ],
)
def test_a_subclass_that_overrides_the_function_is_kept(layer: nn.Module, overridden: str):
    assert reason_for(layer) == f"{type(layer).__name__} overrides {overridden}, so its function is not known"


def test_a_subclass_that_does_not_is_quantized():
    assert plan_of(OwnName(2, 2)).layer_type == "Linear"
    assert plan_of(nn.MultiheadAttention(2, 1).out_proj).layer_type == "Linear"


def test_a_layer_whose_forward_was_replaced_is_kept():
    layer = nn.Linear(2, 2)
    layer.forward = lambda x: x  # type: ignore[method-assign]
    assert reason_for(layer) == "Linear overrides Linear.forward, so its function is not known"


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


def parametrized(layer: nn.Module) -> nn.Module:
    parametrize.register_parametrization(layer, "weight", Doubled())
    return layer


def pruned(layer: nn.Module) -> nn.Module:
    return prune.random_unstructured(layer, "weight", 0.5)


@pytest.mark.parametrize(
    "computed",
    [
        parametrized,
        parametrizations.weight_norm,
        parametrizations.orthogonal,
        lambda c: prune.random_unstructured(c, "weight", 0.5),
    ],
    ids=["parametrized", "weight_norm", "orthogonal", "pruned"],
)
def test_a_layer_with_a_computed_weight_is_kept(computed: Callable[[nn.Module], nn.Module]):
    assert reason_for(computed(nn.Conv1d(4, 4, 1))) == COMPUTED


def test_a_layer_normalised_in_the_old_way_is_kept():
    with pytest.warns(FutureWarning, match="weight_norm"):
        layer = old_weight_norm(nn.Linear(2, 2))
    assert reason_for(layer) == COMPUTED


def test_a_layer_is_quantized_once_its_parametrization_is_removed():
    layer = parametrized(nn.Linear(2, 2))
    parametrize.remove_parametrizations(layer, "weight")
    assert plan_of(layer).layer_type == "Linear"


@pytest.mark.parametrize("make", [lambda: nn.LazyLinear(3), lambda: nn.LazyConv2d(3, 1)])
def test_a_lazy_layer_is_kept_until_it_ran(make: Callable[[], nn.Module]):
    layer = make()
    assert reason_for(layer) == "its shape is not known yet: run the model once before quantizing"
    layer(torch.zeros(1, 2, 3, 4))
    assert plan_of(layer).weights["weight"].shape[:2] == (3, 4 if isinstance(layer, nn.Linear) else 2)


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        (torch.empty(3, 0), "its weight is empty"),
        (torch.empty(0, 3), "its weight is empty"),
        (torch.ones(3, 2, dtype=torch.int8), "its weight is torch.int8, not float"),
        (torch.ones(3, 2, dtype=torch.complex64), "its weight is torch.complex64, not float"),
    ],
)
def test_a_weight_that_is_no_matrix_of_floats_is_kept(weight: Tensor, reason: str):
    layer = nn.Linear(2, 3)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    assert reason_for(layer) == reason
