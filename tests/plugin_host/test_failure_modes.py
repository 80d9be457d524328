"""What can be wrong with an installed plugin: each has a named error or warning, and no other run is stopped."""

import re
import warnings

import attrs
import pytest
import torch
from fake_distributions import BROKEN, Site
from torch import nn

from mono_quant import Quantizer
from mono_quant._plugins import manager
from mono_quant.errors import MonoQuantError, PluginConflictError, PluginError, PluginWarning, UnknownPluginError

HOOK = """
from mono_quant import hookimpl
from mono_quant.core.observers import MinMaxObserver
from mono_quant.core.schemes import Int8WeightOnly
from mono_quant.io.checks import SizeValidator
from mono_quant.plugin_api import ObserverSpec, SchemeSpec, SourceSpec, ValidatorSpec

@hookimpl
def {name}():
    {body}
"""
GOOD = HOOK.format(
    name="mono_quant_observers",
    body='return [ObserverSpec(name="wide", summary="", factory=MinMaxObserver)]',
)
CLASS = """
from mono_quant import hookimpl

class Plugin:
    @hookimpl
    def mono_quant_observers(self):
        return []
"""

WRITING_OBSERVER = GOOD.replace(
    "@hookimpl", "class Writing(MinMaxObserver):\n    def observe(self, view):\n        view.mul_(2)\n\n@hookimpl"
).replace("factory=MinMaxObserver", "factory=Writing")
WRITING_SCHEME = HOOK.format(
    name="mono_quant_schemes", body='return [SchemeSpec(name="wide", summary="", factory=Writing)]'
).replace(
    "@hookimpl",
    """class Writing(Int8WeightOnly):
    name = "wide"
    def convert(self, module, plan, statistics):
        converted = super().convert(module, plan, statistics)
        module.weight.detach().mul_(2)
        return converted

@hookimpl""",
)
WRITING_VALIDATOR = HOOK.format(
    name="mono_quant_validators", body='return [ValidatorSpec(name="wide", summary="", factory=Writing)]'
).replace(
    "@hookimpl",
    """class Writing(SizeValidator):
    def validate(self, context):
        for parameter in context.original.parameters():
            parameter.data.zero_()
        context.quantized.get_parameter("0.weight_scale").detach().mul_(2)
        return super().validate(context)

@hookimpl""",
)


@attrs.frozen
class Failure:
    """One way to fail.

    Args:
        code: of the plugin's module.
        warned: what is warned of when plugins are loaded; empty for nothing.
        uses: options of a `Quantizer` that use it.
        error: what those end in; None when they work all the same.
        message: of that error.
        more: code of a second distribution.
    """

    code: str
    warned: str
    uses: dict[str, object]
    error: type[MonoQuantError] | None
    message: str = ""
    more: str = ""


WIDE = {"observer": "wide"}
FAILURES = {
    "a missing dependency": Failure(
        BROKEN,
        "importing 'mono_quant_wide' raised ModuleNotFoundError: No module named 'a_module_that_nobody_has'",
        WIDE,
        UnknownPluginError,
        r"no observer is named 'wide'.*ModuleNotFoundError",
    ),
    "a syntax error": Failure(
        "def mono_quant_observers(:",
        "importing 'mono_quant_wide' raised SyntaxError",
        WIDE,
        UnknownPluginError,
        r"no observer is named 'wide'.*SyntaxError",
    ),
    "a hook that raises": Failure(
        HOOK.format(name="mono_quant_observers", body="raise ZeroDivisionError('on purpose')"),
        "ZeroDivisionError: on purpose",
        WIDE,
        UnknownPluginError,
        "ZeroDivisionError: on purpose",
    ),
    "a wrong record type": Failure(
        HOOK.format(name="mono_quant_observers", body="return [SourceSpec(name='wide', summary='', factory=dict)]"),
        r"mono_quant_observers must return ObserverSpec records, got SourceSpec\(",
        WIDE,
        UnknownPluginError,
        "must return ObserverSpec records",
    ),
    "a misspelt hook": Failure(
        HOOK.format(name="mono_quant_observer", body="return []"),
        "mono_quant_observer is not a hook; there are mono_quant_observers, ",
        WIDE,
        UnknownPluginError,
        "is not a hook",
    ),
    "a class for an instance": Failure(
        CLASS,
        "Plugin is a class; pass an instance of it",
        WIDE,
        UnknownPluginError,
        "is a class",
    ),
    "a name clash": Failure(
        GOOD,
        "",
        WIDE,
        PluginConflictError,
        r"observer 'wide' is claimed by other \(mono-quant-other 1\.0\) and wide \(mono-quant-wide 1\.0\)",
        more=GOOD,
    ),
    "the name of a built-in": Failure(
        GOOD.replace("return [", "return [ObserverSpec(name='minmax', summary='', factory=MinMaxObserver), "),
        r"observer 'minmax': the name 'minmax' is also claimed by minmax \(mono-quant ",
        WIDE,
        UnknownPluginError,
        r"plugin wide .* could not be used: observer 'minmax': the name 'minmax' is also claimed by minmax",
    ),
    "an API that is too old": Failure(
        f"MONO_QUANT_API_VERSION = 0\n{GOOD}",
        "it was written for plugin API 0; .* and serves none before 1",
        WIDE,
        UnknownPluginError,
        "plugin API 0",
    ),
    "an API that is too new": Failure(
        f"MONO_QUANT_API_VERSION = 99\n{GOOD}",
        "it was written for plugin API 99; .*: install a newer mono_quant",
        WIDE,
        UnknownPluginError,
        "plugin API 99",
    ),
    "a slow import": Failure(
        f"import time\ntime.sleep(0.05)\n{GOOD}",
        r"took 0\.[01] s to import, which every first Quantizer waits for",
        WIDE,
        None,
    ),
    "a hook that returns None": Failure(
        HOOK.format(name="mono_quant_observers", body="pass"),
        "mono_quant_observers must return a list of ObserverSpec, got None",
        WIDE,
        UnknownPluginError,
        "got None",
    ),
    "an observer that writes into the model's numbers": Failure(
        WRITING_OBSERVER,
        "",
        WIDE,
        PluginError,
        "observer Writing of layer '0' wrote into the layer's input",
    ),
    "a scheme that writes into the model": Failure(
        WRITING_SCHEME,
        "",
        {"scheme": "wide"},
        PluginError,
        "scheme 'wide', which converts layer '0', wrote into 'weight' of a model that it must leave as it is",
    ),
    "a validator that writes into the model": Failure(
        WRITING_VALIDATOR,
        "",
        {"validators": ["wide"]},
        PluginError,
        "validator Writing wrote into 'weight_scale' of a model that it must leave as it is",
    ),
}

every_failure = pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """An import is slow after 50 ms, for these tests."""
    monkeypatch.setattr(manager, "SLOW_IMPORT_MS", 50)


def install(site: Site, failure: Failure) -> None:
    point = "mono_quant_wide:Plugin" if "class Plugin" in failure.code else "mono_quant_wide"
    site.install("mono-quant-wide", failure.code, points={"wide": point})
    if failure.more:
        site.install("mono-quant-other", failure.more)


@every_failure
def test_a_run_that_does_not_use_it_gives_the_same_after_at_most_one_warning(
    site: Site, failure: Failure, model: nn.Module, batches: list[torch.Tensor]
):
    expected = Quantizer(autoload=False).quantize(model, batches).model.state_dict()
    install(site, failure)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = Quantizer().quantize(model, batches).model.state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    told = [str(one.message) for one in caught if issubclass(one.category, PluginWarning)]
    assert len(told) == bool(failure.warned)
    assert all("wide (mono-quant-wide 1.0)" in one and re.search(failure.warned, one) for one in told)


@every_failure
@pytest.mark.filterwarnings("ignore::mono_quant.errors.PluginWarning")
def test_a_run_that_uses_it_ends_in_a_named_error_and_leaves_the_model_as_it_was(
    site: Site, failure: Failure, model: nn.Module, batches: list[torch.Tensor]
):
    install(site, failure)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if failure.error is None:
        assert Quantizer(**failure.uses).quantize(model, batches).info.selected_layers
    else:
        with pytest.raises(failure.error, match=f"(?s){failure.message}"):
            Quantizer(**failure.uses).quantize(model, batches)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in before.items())
    assert model.training
