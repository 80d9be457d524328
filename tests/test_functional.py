"""The pipeline as single calls: what they take, and what they say of anything else."""

import inspect
from collections.abc import Callable

import pytest
from small_models import mlp, rows
from torch import nn

from mono_quant import Quantizer, dynamic_quantize, static_quantize
from mono_quant.errors import ConfigurationError
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
