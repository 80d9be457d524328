"""The pipeline as single calls: what they take, and what they say of anything else."""

import inspect
import json
import re
from collections.abc import Callable

import pytest
import torch
from small_models import mlp, rows
from torch import nn

from mono_quant import Quantizer, dynamic_quantize, quantize, static_quantize
from mono_quant.errors import CalibrationError, ConfigurationError, UnsupportedLayerError
from mono_quant.modules import QuantizedModule

BOTH = pytest.mark.parametrize("function", [static_quantize, dynamic_quantize], ids=lambda function: function.__name__)
Function = Callable[..., tuple[nn.Module, object]]


def keywords(function: Callable[..., object]) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}


@BOTH
@pytest.mark.parametrize("scheme", ["int8-static", "int8-dynamic", {"name": "int8-static"}, "none-such", None], ids=str)
def test_another_scheme_is_refused_with_where_to_ask_for_it(function: Function, scheme: object):
    with pytest.raises(
        ConfigurationError, match=rf"{function.__name__} has its scheme in its name.* Quantizer\(scheme"
    ):
        function(mlp(), rows(), scheme=scheme)


@BOTH
@pytest.mark.parametrize(("option", "instead"), [("include", "layer_types and layer_names"), ("exclude", "skip_types")])
def test_patterns_are_refused_with_what_there_is_instead(function: Function, option: str, instead: str):
    with pytest.raises(ConfigurationError, match=rf"{function.__name__} .*{instead}.*Quantizer\({option}=\.\.\.\)"):
        function(mlp(), rows(), **{option: ["0"]})


@BOTH
@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("observr", "observer"),
        ("layer_type", "layer_types"),
        ("skip_name", "skip_names"),
        ("on_fail", "on_failure"),
        ("num_sample", "num_samples"),
        ("validator", "validators"),
    ],
)
def test_a_misspelt_option_is_refused_with_the_one_that_was_meant(function: Function, option: str, meant: str):
    with pytest.raises(ConfigurationError, match=rf"no option '{option}'; .*; did you mean '{meant}'\?$"):
        function(mlp(), rows(), **{option: None})


@BOTH
def test_an_unknown_option_is_refused_with_all_that_are_known(function: Function):
    with pytest.raises(
        ConfigurationError, match=f"^{function.__name__} has no option 'zzz'; its options are: "
    ) as caught:
        function(mlp(), rows(), zzz=1)
    listed = str(caught.value).partition("its options are: ")[2].split(", ")
    assert len(listed) == len(set(listed))
    assert set(listed) == (keywords(function) | keywords(Quantizer)) - {"include", "exclude"}


@BOTH
def test_options_are_refused_before_any_data_is_drawn(function: Function):
    drawn = []
    with pytest.raises(ConfigurationError):
        function(mlp(), (drawn.append(x) or x for x in rows()), inplace=True)
    assert drawn == []


@BOTH
def test_every_option_that_is_listed_is_taken(function: Function):
    defaults = {
        name: parameter.default
        for of in (Quantizer, function)
        for name, parameter in inspect.signature(of).parameters.items()
        if name in keywords(of) - {"include", "exclude"}
    }
    model, _ = function(mlp(), rows(), **defaults)
    assert [name for name, module in model.named_modules() if isinstance(module, QuantizedModule)] == ["0", "2"]


@BOTH
def test_validation_can_be_left_out_whatever_the_validators(function: Function):
    _, info = function(mlp(), rows(), run_validation=False, validators=["sqnr"])
    assert info.sqnr_db is None


WIDE = nn.Linear(320, 4)


def granularity(**options: object) -> str:
    (layer,) = quantize(nn.Sequential(WIDE), **options).plan.layers.values()
    return str(layer.weights["weight"].granularity)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_groups_are_options_of_the_scheme_that_is_found(bits: int):
    assert granularity(bits=bits, group_size=64) == "per-group(64)"
    assert granularity(bits=bits, misfit="adjust") == "per-group(80)"
    assert granularity(bits=bits, group_size=100, misfit="pad") == "per-group(100)"


def test_a_checkpoint_takes_them_too():
    checkpoint = quantize({"fc.weight": WIDE.weight.detach()}, bits=4, misfit="pad")
    assert str(checkpoint.plan.layers["fc"].weights["weight"].granularity) == "per-group(128)"


def test_without_them_a_misfit_is_an_error_that_python_and_the_command_line_can_follow():
    with pytest.raises(UnsupportedLayerError, match="no multiple of group_size 128") as caught:
        quantize(nn.Sequential(WIDE), bits=4)
    hint = re.search(r"{.*}", str(caught.value))[0].replace("...", '"int4-weight-only"')
    assert granularity(scheme=json.loads(hint)) == "per-group(80)"
    with pytest.raises(UnsupportedLayerError, match=r"layer '\(model\)' has 320"):
        quantize(WIDE, bits=4)


@pytest.mark.parametrize(
    "options", [{"bits": 16}, {"dynamic": True}, {"calibration_data": [torch.zeros(2, 320)]}], ids=str
)
@pytest.mark.parametrize("groups", [{"group_size": 64}, {"misfit": "pad"}], ids=str)
def test_a_scheme_without_groups_refuses_them(options: dict[str, object], groups: dict[str, object]):
    with pytest.raises(ConfigurationError, match=f"{next(iter(groups))}: the scheme that is meant, .*, has no groups"):
        quantize(WIDE, **options, **groups)


def test_a_scheme_that_is_named_has_its_own_options():
    with pytest.raises(ConfigurationError, match="says it all: leave out bits, dynamic, group_size and misfit"):
        quantize(WIDE, scheme="int4-weight-only", misfit="pad")


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (
            {"a.weight": torch.zeros(4, 4), "epoch": 3},
            "the dict given is no state_dict of tensors alone: 'epoch' is a int; take it out$",
        ),
        ({"model": {}, "epoch": 1}, "'model' is a dict; the state_dict may be its 'model' alone$"),
        (3, "got int$"),
        ({}, "nothing of the state_dict would be quantized: it has no tensors$"),
    ],
    ids=str,
)
def test_what_is_no_state_dict_is_refused_with_the_reason(weights: object, said: str):
    with pytest.raises(ConfigurationError, match=said):
        quantize(weights, bits=8)


@BOTH
def test_types_that_the_model_has_not_are_refused_with_those_that_it_has(function: Function):
    with pytest.raises(
        ConfigurationError, match=r"Conv2d' matches .*layer_types.*; the types there are: Linear, ReLU$"
    ):
        function(mlp(), rows(), layer_types=[nn.Conv2d])


@BOTH
def test_arrays_are_refused_with_how_to_make_tensors_of_them(function: Function, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MONO_QUANT_DISABLE_AUTOLOAD", "1")  # an installed source may read them
    arrays = [row.numpy() for row in rows()]
    for data in (arrays, arrays[0]):
        with pytest.raises(CalibrationError, match=r"torch\.from_numpy"):
            function(mlp(), data)
    function(mlp(), arrays, batch_fn=torch.from_numpy)
