"""What a configuration says of the layers of a model."""

import pytest
from torch import nn

from mono_quant.config import QuantizationConfig
from mono_quant.core.schemes import Int8WeightOnly
from mono_quant.errors import ConfigurationError
from mono_quant.layer_selection import LayerSelection
from mono_quant.plugin_api import LayerPlan


@pytest.fixture
def model() -> nn.Module:
    """Two layers, the first of which has two names."""
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 4))
    model.again = model[0]
    return model


def selection(model: nn.Module, **options: object) -> LayerSelection:
    return LayerSelection(QuantizationConfig(**options), model)


def test_a_layer_has_all_of_its_names(model: nn.Module):
    assert selection(model).names(model[0]) == ["0", "again"]


@pytest.mark.parametrize(
    ("options", "reasons"),
    [
        ({}, ("", "")),
        ({"include": ["1"]}, ("no include pattern names it", "")),
        ({"include": ["again"]}, ("", "no include pattern names it")),
        ({"exclude": ["again"]}, ("excluded by 'again'", "")),
        ({"include": ["*"], "exclude": ["1"]}, ("", "excluded by '1'")),
        ({"overrides": {"0": "float", "*": {}}}, ("overridden by '0'", "")),
        ({"overrides": {"*": {}, "0": "float"}}, ("", "")),
    ],
    ids=str,
)
def test_why_a_layer_stays_in_float(model: nn.Module, options: dict[str, object], reasons: tuple[str, str]):
    assert tuple(selection(model, **options).why_kept(layer) for layer in (model[0], model[1])) == reasons


def test_a_pattern_that_matches_nothing_is_refused(model: nn.Module):
    with pytest.raises(ConfigurationError, match="pattern 'nothing' matches no layer"):
        selection(model, exclude=["nothing"])


@pytest.mark.parametrize(("least", "reason"), [(12, ""), (13, "it has 12 weights, fewer than min_parameters=13")])
def test_a_layer_is_too_small_below_the_least_number_of_weights(model: nn.Module, least: int, reason: str):
    decision = Int8WeightOnly().plan("0", model[0])
    assert isinstance(decision, LayerPlan)
    assert selection(model, min_parameters=least).why_too_small(decision) == reason
