"""Which layers are quantized, and how: include, exclude, overrides."""

from collections.abc import Mapping

import pytest
import torch
from small_models import FEATURES, mlp, quantize, quantized_names, rows
from torch import nn

from mono_quant import Quantizer, hookimpl, static_quantize
from mono_quant.core.observers import MinMaxObserver
from mono_quant.errors import ConfigurationError, UnknownPluginError
from mono_quant.plugin_api import ObserverSpec


class WideObserver(MinMaxObserver):
    """Sees every range ten times as wide."""

    def range(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        ends = super().range()
        return None if ends is None else (ends[0] * 10, ends[1] * 10)


class WidePlugin:
    @hookimpl
    def mono_quant_observers(self) -> list[ObserverSpec]:
        return [ObserverSpec(name="wide", summary="ten times as wide", factory=WideObserver)]


class Linear(nn.Linear):
    """Another class of the name that torch's has."""


class Shared(nn.Module):
    """One layer under two names, and another one."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(FEATURES, FEATURES)
        self.b = self.a
        self.c = nn.Linear(FEATURES, FEATURES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(self.b(self.a(x)))


def kept(model: nn.Module, **options: object) -> dict[str, str]:
    return {name: reason for name, reason in Quantizer(**options).plan(model).kept.items() if "no param" not in reason}


@pytest.mark.parametrize(
    ("include", "selected"),
    [
        (None, ["0", "2"]),
        (["0"], ["0"]),
        ("2", ["2"]),
        (["re:[0-9]"], ["0", "2"]),
        ([nn.Linear], ["0", "2"]),
        (nn.Linear, ["0", "2"]),
        (["type:Linear"], ["0", "2"]),
        (["2", "0"], ["0", "2"]),
    ],
)
def test_only_what_include_names_is_quantized(include: object, selected: list[str]):
    assert list(Quantizer(include=include).plan(mlp()).layers) == selected


def test_what_include_does_not_name_is_kept_with_the_reason():
    assert kept(mlp(), include=["2"]) == {"0": "no include pattern names it"}


def test_what_exclude_names_is_kept_with_the_reason():
    assert kept(mlp(), exclude=["2"]) == {"2": "excluded by '2'"}


def test_exclude_wins_over_include():
    assert kept(mlp(), include=[nn.Linear], exclude=["2"]) == {"2": "excluded by '2'"}


def test_a_class_is_told_from_another_one_of_the_same_name():
    model = nn.Sequential(nn.Linear(FEATURES, 4), Linear(4, 4))
    name = f"type:{__name__}.Linear"
    assert kept(model, exclude=[Linear]) == {"1": f"excluded by {name!r}"}
    assert kept(model, exclude=[Linear]) == kept(model, exclude=[name])
    assert list(Quantizer(include=[Linear]).plan(model).layers) == ["1"]
    assert list(Quantizer(exclude=["type:Linear"]).plan(model).layers) == []


def test_overrides_of_two_classes_of_one_name_are_two():
    model = nn.Sequential(nn.Linear(FEATURES, 4), Linear(4, 4))
    plan = Quantizer(overrides={Linear: None, nn.Linear: {"scheme": "int8-dynamic"}}).plan(model)
    assert {name: layer.scheme for name, layer in plan.layers.items()} == {"0": "int8-dynamic"}


def test_a_pattern_given_as_a_class_says_the_same_when_it_is_read_back():
    config = Quantizer(exclude=[Linear], include=[nn.Linear]).config
    again = Quantizer(exclude=config.exclude, include=config.include).config
    assert again == config
    model = nn.Sequential(nn.Linear(FEATURES, 4), Linear(4, 4))
    assert list(Quantizer.from_config(again).plan(model).layers) == ["0"]


def test_an_override_of_none_keeps_a_layer_with_the_reason():
    assert kept(mlp(), overrides={"2": None}) == {"2": "overridden by '2'"}


def test_the_first_override_that_matches_wins():
    assert kept(mlp(), overrides={"0": {"observer": "minmax"}, "*": None}) == {"2": "overridden by '*'"}
    assert kept(mlp(), overrides={"*": None, "0": {"observer": "minmax"}}).keys() == {"0", "2"}


def test_an_override_gives_a_layer_another_observer():
    torch.manual_seed(0)
    model, data = mlp(), rows()
    options = {"plugins": [WidePlugin()], "validators": ()}
    plain = quantize(model, data, **options).model
    other = quantize(model, data, overrides={"2": {"observer": "wide"}}, **options).model
    torch.testing.assert_close(other[2].input_scale, plain[2].input_scale * 10)
    assert torch.equal(other[0].input_scale, plain[0].input_scale)


@pytest.mark.parametrize("option", ["include", "exclude"])
@pytest.mark.parametrize(
    ("pattern", "there"),
    [
        *((name, "it has: 0, 1, 2") for name in ("head", "1.*", "re:[3-9]", "ReLU")),
        *((kind, "the types there are: Linear, ReLU") for kind in (nn.Conv2d, "type:linear")),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused_and_says_what_there_is(option: str, pattern: object, there: str):
    with pytest.raises(ConfigurationError, match=rf"matches no layer of the model.*; {there}$"):
        Quantizer(**{option: [pattern]}).plan(mlp())


def test_an_override_that_matches_nothing_is_refused():
    with pytest.raises(ConfigurationError, match="pattern 'head' matches no layer"):
        Quantizer(overrides={"head": None}).plan(mlp())


@pytest.mark.parametrize(
    "options",
    [{"exclude": ["*"]}, {"exclude": [nn.Linear]}, {"include": [nn.ReLU]}, {"overrides": {"*": None}}],
    ids=str,
)
def test_a_run_that_would_quantize_nothing_is_refused_before_data_is_drawn(options: Mapping[str, object]):
    drawn = []
    with pytest.raises(ConfigurationError, match="nothing would be quantized"):
        quantize(mlp(), (drawn.append(x) or x for x in rows()), **options)
    assert drawn == []


@pytest.mark.parametrize("change", [{"observers": "minmax"}, "minmax", 3, {"observer": "minmax", "kernel": "auto"}])
def test_an_override_that_cannot_be_meant_is_refused(change: object):
    with pytest.raises(ConfigurationError):
        Quantizer(overrides={"0": change})


@pytest.mark.parametrize("scheme", ["int8-static", "int8-dynamic"])
def test_an_override_with_an_unknown_observer_is_refused_when_planning_whatever_the_scheme_needs(scheme: str):
    with pytest.raises(UnknownPluginError, match="widest"):
        Quantizer(scheme, overrides={"0": {"observer": "widest"}}).plan(mlp())


def test_a_shared_layer_is_replaced_once_in_all_its_places():
    result = quantize(Shared(), rows())
    assert result.model.a is result.model.b
    assert quantized_names(result.model) == ["a", "c"]


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_shared_layer_is_named_by_any_of_its_names(name: str):
    assert kept(Shared(), exclude=[name]) == {"a": f"excluded by {name!r}"}
    assert list(Quantizer(include=[name]).plan(Shared()).layers) == ["a"]
    assert kept(Shared(), overrides={name: None}) == {"a": f"overridden by {name!r}"}


@pytest.mark.parametrize("name", ["a", "b"])
def test_an_observer_for_a_shared_layer_may_be_given_under_any_of_its_names(name: str):
    options = {"plugins": [WidePlugin()], "validators": (), "include": ["a"]}
    torch.manual_seed(0)
    model, data = Shared(), rows()
    plain = quantize(model, data, **options).model
    other = quantize(model, data, overrides={name: {"observer": "wide"}}, **options).model
    torch.testing.assert_close(other.a.input_scale, plain.a.input_scale * 10)


def test_static_quantize_selects_by_types_and_exact_names():
    model = nn.Sequential(mlp(), nn.Unflatten(1, (2, 4)), nn.Conv1d(2, 4, 2))
    options = {"run_validation": False, "show_progress": False}
    _, info = static_quantize(model, rows(), layer_types=nn.Conv1d, layer_names=["0.2"], **options)
    assert info.selected_layers == ("0.2", "2")
    _, info = static_quantize(model, rows(), skip_types=[nn.Conv1d], skip_names=["0.2"], **options)
    assert info.selected_layers == ("0.0",)
    with pytest.raises(ConfigurationError, match="matches no layer"):
        static_quantize(model, rows(), layer_names=["0.*"], **options)
