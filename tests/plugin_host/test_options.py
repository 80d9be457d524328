"""A component is made from its record and the user's options, when it is first needed."""

import sys

import pytest
import torch
from fake_distributions import BROKEN, Site, observer
from torch import nn

from mono_quant import Quantizer, hookimpl
from mono_quant.core.observers import MinMaxObserver
from mono_quant.errors import ConfigurationError, PluginError
from mono_quant.plugin_api import ObserverSpec

ANNOUNCE = """
from mono_quant import hookimpl
from mono_quant.plugin_api import ObserverSpec

@hookimpl
def mono_quant_observers():
    return [ObserverSpec(name="wide", summary="", factory="{factory}")]
"""


class Announced:
    """A plugin with one observer ``mine`` of a given factory."""

    def __init__(self, factory: object) -> None:
        self.factory = factory

    @hookimpl
    def mono_quant_observers(self) -> list[ObserverSpec]:
        return [ObserverSpec(name="mine", summary="", factory=self.factory)]


class Picky(MinMaxObserver):
    made: list["Picky"]

    def __init__(self, *, share: float = 0.5, width: float = 1.0, **common: object) -> None:
        if not 0 < share <= 1:
            message = f"share must be in (0, 1], got {share}"
            raise ValueError(message)
        super().__init__(**common)
        self.share = share
        self.width = width
        Picky.made.append(self)


@pytest.fixture(autouse=True)
def nothing_made() -> None:
    Picky.made = []


def quantize(model: nn.Module, batches: list[torch.Tensor], wanted: object, factory: object = Picky) -> None:
    Quantizer(observer=wanted, plugins=[Announced(factory)]).quantize(model, batches)


def test_options_reach_the_component_and_the_others_keep_their_defaults(model: nn.Module, batches: list[torch.Tensor]):
    quantize(model, batches, {"name": "mine", "share": 0.25})
    assert [(one.share, one.width) for one in Picky.made] == [(0.25, 1.0)] * 2


def test_an_unknown_option_is_an_error_that_lists_the_known(model: nn.Module, batches: list[torch.Tensor]):
    with pytest.raises(
        ConfigurationError, match=r"observer 'mine' has no option 'shar'; its options are: share, width"
    ):
        quantize(model, batches, {"name": "mine", "shar": 0.25})


def test_an_unknown_option_of_a_component_without_options_says_so(model: nn.Module, batches: list[torch.Tensor]):
    with pytest.raises(ConfigurationError, match=r"observer 'minmax' has no option 'k'; its options are: \(none\)"):
        Quantizer(observer={"name": "minmax", "k": 1}).quantize(model, batches)


def test_what_the_engine_decides_is_no_option(model: nn.Module, batches: list[torch.Tensor]):
    with pytest.raises(ConfigurationError, match="observer 'minmax' has no option 'dtype'"):
        Quantizer(observer={"name": "minmax", "dtype": "int8"}).quantize(model, batches)


def test_a_refused_value_is_an_error_with_the_reason(model: nn.Module, batches: list[torch.Tensor]):
    with pytest.raises(ConfigurationError, match=r"observer 'mine' refused .*'share': 2.*share must be in \(0, 1\]"):
        quantize(model, batches, {"name": "mine", "share": 2})


def test_a_factory_that_makes_something_else_is_an_error_that_names_its_plugin(
    model: nn.Module, batches: list[torch.Tensor]
):
    def make_text(**common: object) -> str:
        return str(common)

    with pytest.raises(PluginError, match=r"'mine' of Announced \(passed to Quantizer\) made a str, not a .*Observer"):
        quantize(model, batches, "mine", make_text)


def test_a_factory_given_as_a_path_is_imported_when_it_is_used_and_not_before(
    site: Site, model: nn.Module, batches: list[torch.Tensor]
):
    site.module("costly_code", observer("unused"))
    site.install("mono-quant-wide", ANNOUNCE.format(factory="costly_code:TheObserver"))
    quantizer = Quantizer(observer="wide")
    quantizer.plan(model)
    before = "costly_code" in sys.modules
    quantizer.quantize(model, batches)
    assert (before, "costly_code" in sys.modules) == (False, True)


def test_a_factory_given_as_a_path_takes_options(site: Site, model: nn.Module, batches: list[torch.Tensor]):
    site.module("costly_code", observer("unused"))
    site.install("mono-quant-wide", ANNOUNCE.format(factory="costly_code:TheObserver"))
    with pytest.raises(ConfigurationError, match="its options are: width"):
        Quantizer(observer={"name": "wide", "k": 1}).quantize(model, batches)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (BROKEN, "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"),
        ("def broken(:", "SyntaxError: "),
        ("raise ZeroDivisionError('on purpose')", "ZeroDivisionError: on purpose"),
        ("TheObservr = None", "AttributeError: .*TheObserver"),
    ],
    ids=["a missing dependency", "a syntax error", "an error of its own", "a missing name"],
)
def test_a_path_that_cannot_be_imported_is_an_error_that_names_its_plugin(
    site: Site, model: nn.Module, batches: list[torch.Tensor], code: str, reason: str
):
    site.module("costly_code", code)
    site.install("mono-quant-wide", ANNOUNCE.format(factory="costly_code:TheObserver"))
    expected = rf"plugin wide \(mono-quant-wide 1\.0\): its factory 'costly_code:TheObserver' cannot .*: {reason}"
    with pytest.raises(PluginError, match=expected):
        Quantizer(observer="wide").quantize(model, batches)


def test_a_factory_that_is_neither_callable_nor_a_path_is_refused_in_the_record():
    with pytest.raises(TypeError, match=r"factory must be a class or 'package\.module:Class', got 'a\.b'"):
        ObserverSpec(name="mine", summary="", factory="a.b")
