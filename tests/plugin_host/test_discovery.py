"""Installed plugins are found through their entry points, and in no other way."""

import shutil
from pathlib import Path

import pytest
from fake_distributions import BROKEN, Site, observer

from mono_quant._plugins.discovery import refresh
from mono_quant._plugins.manager import PluginManager
from mono_quant.errors import PluginError, PluginWarning

INSTANCE = """
from mono_quant import hookimpl
from mono_quant.plugin_api import ObserverSpec

class Plugin:
    @hookimpl
    def mono_quant_observers(self):
        return [ObserverSpec(name="wide", summary="", factory=dict)]

plugin = Plugin()
"""

MINMAX_ALONE = {"minmax": "mono_quant.builtin.minmax"}


def test_an_installed_distribution_is_found_with_its_name_and_version(site: Site):
    site.install("mono-quant-wide", observer("wide"), version="3.2")
    provider = PluginManager.with_plugins().observers.get("wide").provider
    assert (provider.name, provider.distribution, provider.version) == ("wide", "mono-quant-wide", "3.2")
    assert provider.status == "active"


def test_the_name_of_a_distribution_is_compared_as_packaging_tools_do(site: Site):
    site.install("Mono_Quant.Wide", observer("wide"), points={"wide": "mono_quant_wide"})
    assert PluginManager.with_plugins().observers.get("wide").provider.distribution == "mono-quant-wide"


def test_an_entry_point_may_name_an_instance_inside_a_module(site: Site):
    site.install("mono-quant-wide", INSTANCE, points={"wide": "mono_quant_wide:plugin"})
    assert "wide" in PluginManager.with_plugins().observers.names()


def test_one_distribution_may_bring_several_plugins(site: Site):
    other = site.module("the_other_plugin", observer("narrow"))
    site.install("mono-quant-two", observer("wide"), points={"a": "mono_quant_two", "b": other})
    assert {"wide", "narrow"} <= set(PluginManager.with_plugins().observers.names())


def test_what_is_installed_while_the_process_runs_is_seen_after_a_refresh_only(
    site: Site, tmp_path_factory: pytest.TempPathFactory
):
    aside = Site(tmp_path_factory.mktemp("aside"))
    aside.install("mono-quant-wide", observer("wide"))
    PluginManager.with_plugins()
    shutil.copytree(aside.folder, site.folder, dirs_exist_ok=True)
    before = PluginManager.with_plugins().observers.names()
    refresh()
    after = PluginManager.with_plugins().observers.names()
    assert ("wide" in before, "wide" in after) == (False, True)


def test_what_is_uninstalled_is_gone_after_a_refresh(site: Site):
    site.install("mono-quant-wide", observer("wide"))
    before = PluginManager.with_plugins().observers.names()
    site.uninstall("mono-quant-wide")
    after = PluginManager.with_plugins().observers.names()
    assert ("wide" in before, "wide" in after) == (True, False)


def test_a_module_that_cannot_be_imported_is_tried_once_in_a_process(site: Site):
    log = site.folder / "runs"
    site.install("mono-quant-bad", f"with open({str(log)!r}, 'a') as log: log.write('x')\n{BROKEN}")
    with pytest.warns(PluginWarning):
        PluginManager.with_plugins()
    PluginManager.with_plugins()
    assert log.read_text() == "x"


def test_a_distribution_found_in_two_places_counts_once(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    site.install("mono-quant-wide", observer("wide"), version="1.0")
    nearer = tmp_path / "nearer"
    Site(nearer).install("mono-quant-wide", observer("wide"), version="2.0")
    monkeypatch.syspath_prepend(nearer)
    refresh()
    assert PluginManager.with_plugins().observers.get("wide").provider.version == "2.0"


def test_the_rest_of_a_half_removed_distribution_stops_nothing(site: Site):
    site.install("mono-quant-gone", observer("wide"))
    (site.folder / "mono_quant_gone-1.0.dist-info" / "METADATA").unlink()
    refresh()
    assert "minmax" in PluginManager.with_plugins().observers.names()


def test_the_built_ins_come_first(site: Site):
    site.install("aaa", observer("wide"), points={"aaa": "aaa"})
    providers = PluginManager.with_plugins().providers
    assert [provider.name for provider in providers if not provider.is_builtin] == ["aaa"]
    assert providers[-1].name == "aaa"


def test_the_built_ins_are_those_of_the_entry_points_of_the_installed_mono_quant(site: Site):
    site.install("mono-quant", version="99.0", points=MINMAX_ALONE)
    manager = PluginManager.with_plugins()
    assert [(p.name, p.version) for p in manager.providers if p.is_builtin] == [("minmax", "99.0")]
    assert [registry.names() for registry in manager.registries.values() if registry.names()] == [["minmax"]]


def test_a_built_in_that_cannot_be_imported_always_raises(site: Site):
    module = site.module("broken_builtin", BROKEN)
    site.install("mono-quant", version="99.0", points={**MINMAX_ALONE, "bad": module})
    with pytest.raises(PluginError, match=r"built-in plugin bad \(mono-quant 99\.0\).*a_module_that_nobody_has"):
        PluginManager.with_plugins()


def test_a_built_in_that_breaks_the_contract_always_raises(site: Site):
    module = site.module("hookless_builtin", "answer = 42")
    site.install("mono-quant", version="99.0", points={"hookless": module})
    with pytest.raises(PluginError, match=r"built-in plugin hookless \(mono-quant 99\.0\): it has no hook"):
        PluginManager.with_plugins()
