"""Versions of the contract: which plugins are served, and what is said of things that go away."""

import re

import attrs
import pytest
import torch
from fake_distributions import Site, observer
from torch import nn

from mono_quant import Quantizer, __version__
from mono_quant._plugins import compatibility
from mono_quant._plugins.compatibility import deprecated_fields
from mono_quant._plugins.inspection import providers_named, tell
from mono_quant._plugins.manager import PluginManager
from mono_quant.errors import PluginError, PluginWarning, UnknownPluginError
from mono_quant.plugin_api import API_VERSION, OLDEST_API_VERSION, ComponentSpec, Observer, ObserverSpec, Source
from mono_quant.plugin_api.deprecations import DEPRECATIONS, Deprecation

SERVED = f"mono_quant {re.escape(__version__)} has plugin API {API_VERSION}"


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (API_VERSION + 1, rf"it was written for plugin API {API_VERSION + 1}; {SERVED}: install a newer mono_quant"),
        (0, rf"it was written for plugin API 0; {SERVED} and serves none before {OLDEST_API_VERSION}: install a newer"),
        ("1.0", r"its MONO_QUANT_API_VERSION is '1\.0', not a whole number"),
        (True, r"its MONO_QUANT_API_VERSION is True, not a whole number"),
    ],
    ids=["too new", "too old", "text", "a truth"],
)
def test_another_version_is_refused_with_both_versions_named(site: Site, stated: object, message: str):
    site.install("mono-quant-wide", f"MONO_QUANT_API_VERSION = {stated!r}\n{observer('wide')}")
    with pytest.warns(PluginWarning, match=rf"plugin wide \(mono-quant-wide 1\.0\) is not used: {message}"):
        manager = PluginManager.with_plugins()
    with pytest.raises(UnknownPluginError, match=message):
        manager.observers.get("wide")


@pytest.mark.parametrize("stated", [OLDEST_API_VERSION, API_VERSION])
def test_every_served_version_is_taken(site: Site, stated: int):
    site.install("mono-quant-wide", f"MONO_QUANT_API_VERSION = {stated}\n{observer('wide')}")
    assert "wide" in PluginManager.with_plugins().observers.names()


def test_an_older_version_that_is_still_served_is_taken(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compatibility, "API_VERSION", 3)
    monkeypatch.setattr(compatibility, "OLDEST_API_VERSION", 2)
    manager = PluginManager()
    manager.add(site.module("second", f"MONO_QUANT_API_VERSION = 2\n{observer('second')}"))
    assert manager.observers.names() == ["second"]
    with pytest.raises(PluginError, match="serves none before 2"):
        manager.add(site.module("first", f"MONO_QUANT_API_VERSION = 1\n{observer('first')}"))


def test_a_field_that_goes_away_is_warned_of_where_it_is_set(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        compatibility, "DEPRECATIONS", [Deprecation(ObserverSpec, "aliases", "2.1", "2.3", "give names alone")]
    )
    site.install("mono-quant-wide", observer("wide", aliases=("broad",)))
    site.install("mono-quant-narrow", observer("narrow"))
    words = (
        r"plugin wide \(mono-quant-wide 1\.0\), record 'wide': ObserverSpec\.aliases is deprecated since "
        r"mono_quant 2\.1 and gone in 2\.3: give names alone"
    )
    with pytest.warns(PluginWarning, match=words) as warned:
        manager = PluginManager.with_plugins()
    assert len(warned) == 1
    assert manager.observers.get("broad").spec.name == "wide"


def test_a_method_that_goes_away_is_warned_of_where_it_is_written(
    site: Site, monkeypatch: pytest.MonkeyPatch, model: nn.Module, batches: list[torch.Tensor]
):
    monkeypatch.setattr(compatibility, "DEPRECATIONS", [Deprecation(Observer, "merge", "2.1", "2.3", "write add()")])
    site.install("mono-quant-wide", observer("wide"))
    with pytest.warns(PluginWarning, match=r"observer 'wide': Observer\.merge is deprecated since mono_quant 2\.1"):
        Quantizer(observer="wide").quantize(model, batches)


def problems(name: str) -> tuple[str, ...]:
    """What ``monoquant plugins info`` and ``check`` say is wrong with a plugin."""
    [provider] = providers_named(name)
    return tell(PluginManager.with_plugins(), provider).problems


@pytest.mark.parametrize(
    "code",
    [observer("wide"), observer("wide").replace("width: float = 1.0", "width: float")],
    ids=["made", "needs options"],
)
def test_a_method_that_goes_away_is_a_problem_where_it_is_written(
    site: Site, monkeypatch: pytest.MonkeyPatch, code: str
):
    monkeypatch.setattr(
        compatibility,
        "DEPRECATIONS",
        [
            Deprecation(Observer, "merge", "2.1", "2.3", "write add()"),
            Deprecation(Source, "length", "2.1", "2.3", "write size()"),
        ],
    )
    site.install("mono-quant-wide", code)
    assert problems("wide") == (
        "observer 'wide': Observer.merge is deprecated since mono_quant 2.1 and gone in 2.3: write add()",
    )


def test_a_method_that_goes_away_is_no_problem_where_it_is_inherited(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        compatibility, "DEPRECATIONS", [Deprecation(Observer, "calculate_qparams", "2.1", "2.3", "write range()")]
    )
    site.install("mono-quant-wide", observer("wide"))
    assert problems("wide") == ()


@attrs.frozen(kw_only=True)
class Record(ComponentSpec):
    """One with defaults of every kind."""

    must: str
    plain: int = 3
    converted: tuple[str, ...] = attrs.field(default="ab", converter=tuple)
    made: list[str] = attrs.field(factory=list)
    derived: str = attrs.field()

    @derived.default
    def _derived(self) -> str:
        return self.must.upper()


@pytest.mark.parametrize(
    ("field", "value"), [("plain", 4), ("converted", "ba"), ("made", ["a"]), ("derived", "other"), ("must", "text")]
)
def test_a_field_is_set_when_it_is_not_its_default_whatever_that_is_made_of(
    monkeypatch: pytest.MonkeyPatch, field: str, value: object
):
    monkeypatch.setattr(compatibility, "DEPRECATIONS", [Deprecation(Record, field, "2.1", "2.3", "nothing")])
    given = {"name": "wide", "summary": "", "factory": dict, "must": "text"}
    assert len(list(deprecated_fields(Record(**{**given, field: value})))) == 1
    assert len(list(deprecated_fields(Record(**given)))) == (field == "must")


def minor(version: str) -> tuple[int, int]:
    major, minor_ = version.split(".")[:2]
    return int(major), int(minor_)


def lasting(deprecation: Deprecation) -> bool:
    """Whether it warns for two minor versions, and is not past its time."""
    since, gone, now = map(minor, (deprecation.since, deprecation.gone, __version__))
    is_long = gone[0] > since[0] or gone[1] >= since[1] + 2
    return is_long and now < gone


def test_what_goes_away_is_there_for_two_minor_versions_and_no_longer():
    assert [str(one) for one in DEPRECATIONS if not lasting(one)] == []
    example = Deprecation(ObserverSpec, "aliases", "1.9", "99.0", "nothing")
    assert lasting(example)
    assert not lasting(attrs.evolve(example, since="98.9", gone="98.10"))
    assert not lasting(attrs.evolve(example, gone="2.0"))
