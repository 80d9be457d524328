"""A plugin that breaks the contract is refused with a message that says how, and nothing of it stays behind."""

import pytest
from fake_distributions import Site, observer

from mono_quant import hookimpl
from mono_quant._plugins.manager import PluginManager
from mono_quant.errors import PluginError, PluginWarning
from mono_quant.plugin_api import API_VERSION, ObserverSpec, SourceSpec

HEAD = "from mono_quant import hookimpl\nfrom mono_quant.plugin_api import ObserverSpec, SourceSpec\n"
GOOD_SOURCE = (
    "@hookimpl\ndef mono_quant_sources():\n    return [SourceSpec(name='left-behind', summary='', factory=dict)]\n"
)
HOOK = "@hookimpl\ndef mono_quant_observers({parameters}):\n    {body}\n"
RECORD = "ObserverSpec(name='left-behind', summary='', factory=dict)"


def hook(body: str, parameters: str = "") -> str:
    return HOOK.format(body=body, parameters=parameters)


BREACHES = {
    "a misspelt hook": (
        "@hookimpl\ndef mono_quant_observer():\n    return []",
        r"mono_quant_observer is not a hook; there are mono_quant_observers, ",
    ),
    "a function without the marker": (
        f"def mono_quant_observers():\n    return [{RECORD}]",
        r"mono_quant_observers is not marked with @mono_quant\.hookimpl",
    ),
    "an argument": (hook("return []", "config"), r"mono_quant_observers\(config\) takes arguments"),
    "an argument with a default": (hook("return []", "config=None"), r"mono_quant_observers\(config=None\) takes arg"),
    "any arguments": (hook("return []", "*args"), r"mono_quant_observers\(\*args\) takes arguments"),
    "a wrapper": (
        "@hookimpl(wrapper=True)\ndef mono_quant_observers():\n    return (yield)",
        r"historic incompatible with yield/wrapper/hookwrapper",
    ),
    "None": (hook("pass"), r"mono_quant_observers must return a list of ObserverSpec, got None"),
    "a record alone": (hook(f"return {RECORD}"), r"must return a list of ObserverSpec, got ObserverSpec\("),
    "a generator": (hook(f"yield {RECORD}"), r"must return a list of ObserverSpec, got <generator"),
    "a class in the list": (hook("return [dict]"), r"must return ObserverSpec records, got <class 'dict'>"),
    "a record of another kind": (
        hook("return [SourceSpec(name='left-behind', summary='', factory=dict)]"),
        r"mono_quant_observers must return ObserverSpec records, got SourceSpec\(",
    ),
    "a good record before a wrong one": (hook(f"return [{RECORD}, 1]"), r"must return ObserverSpec records, got 1"),
    "an invalid record": (hook("return [ObserverSpec(name='Not A Name', summary='', factory=dict)]"), r"Not A Name"),
    "a raised error": (hook("raise ZeroDivisionError('on purpose')"), r"ZeroDivisionError: on purpose"),
    "an exit": (hook("raise SystemExit('on purpose')"), r"SystemExit: on purpose"),
    "an API of the future": (
        f"MONO_QUANT_API_VERSION = {API_VERSION + 1}\n{hook(f'return [{RECORD}]')}",
        rf"plugin API {API_VERSION + 1}.*plugin API {API_VERSION}",
    ),
}
"""What a plugin does wrong: its code, and what the message must say. A good hook stands beside the bad one."""

breach = pytest.mark.parametrize(("code", "message"), BREACHES.values(), ids=BREACHES)


def names(manager: PluginManager) -> dict[str, list[str]]:
    return {registry.kind: registry.names() for registry in manager.registries.values()}


@breach
def test_an_installed_plugin_that_breaks_the_contract_is_recorded_with_the_reason(site: Site, code: str, message: str):
    site.install("mono-quant-bad", HEAD + GOOD_SOURCE + code)
    with pytest.warns(PluginWarning, match=rf"(?s)plugin bad \(mono-quant-bad 1\.0\) is not used: .*{message}"):
        manager = PluginManager.with_plugins()
    assert [p.name for p in manager.providers if p.status == "broken"] == ["bad"]


@breach
def test_a_plugin_that_was_passed_and_breaks_the_contract_raises(site: Site, code: str, message: str):
    module = site.module("a_bad_plugin", HEAD + GOOD_SOURCE + code)
    with pytest.raises(PluginError, match=rf"(?s)plugin a_bad_plugin \(passed to Quantizer\): .*{message}"):
        PluginManager().add(module)


@breach
def test_a_failed_registration_leaves_nothing_behind(site: Site, code: str, message: str):
    del message
    module = site.module("a_bad_plugin", HEAD + GOOD_SOURCE + code)
    manager = PluginManager()
    hooks = {name: len(getattr(manager.hook, name).get_hookimpls()) for name in vars(manager.hook)}
    with pytest.raises(PluginError):
        manager.add(module)
    assert {name: len(getattr(manager.hook, name).get_hookimpls()) for name in vars(manager.hook)} == hooks
    assert (manager.list_name_plugin(), manager.providers) == ([], [])
    assert not any(names(manager).values())


def test_a_good_plugin_is_registered_after_a_failed_one_without_its_records(site: Site):
    manager = PluginManager()
    with pytest.raises(PluginError):
        manager.add(site.module("a_bad_plugin", HEAD + GOOD_SOURCE + hook("return 1")))
    manager.add(site.module("a_good_plugin", observer("wide")))
    assert (manager.sources.names(), manager.observers.names()) == ([], ["wide"])


def test_a_module_without_a_hook_is_refused(site: Site):
    module = site.module("a_plain_module", "answer = 42")
    with pytest.raises(PluginError, match=r"a_plain_module .*it has no hook.*mono_quant_observers"):
        PluginManager().add(module)


def test_a_number_is_refused_as_a_plugin():
    with pytest.raises(PluginError, match=r"plugin int \(passed to Quantizer\): it has no hook"):
        PluginManager().add(42)


class Plugin:
    @hookimpl
    def mono_quant_observers(self) -> list[ObserverSpec]:
        return [ObserverSpec(name="wide", summary="", factory=dict)]


def test_a_class_is_refused_and_its_instance_is_asked_for():
    with pytest.raises(PluginError, match=r"Plugin is a class; pass an instance of it"):
        PluginManager().add(Plugin)


def test_an_instance_of_that_class_is_a_plugin():
    manager = PluginManager()
    manager.add(Plugin())
    assert manager.observers.names() == ["wide"]


def test_an_entry_point_that_names_a_class_is_refused(site: Site):
    code = HEAD + "class Plugin:\n    @hookimpl\n    def mono_quant_observers(self):\n        return []\n"
    site.install("mono-quant-bad", code, points={"bad": "mono_quant_bad:Plugin"})
    with pytest.warns(PluginWarning, match="Plugin is a class; pass an instance of it"):
        PluginManager.with_plugins()


def test_a_plugin_that_states_the_present_api_version_is_used(site: Site):
    manager = PluginManager()
    manager.add(site.module("a_plugin", f"MONO_QUANT_API_VERSION = {API_VERSION}\n{observer('wide')}"))
    assert manager.observers.names() == ["wide"]


def test_a_hook_that_announces_nothing_is_legal(site: Site):
    manager = PluginManager()
    manager.add(site.module("a_plugin", HEAD + hook("return []")))
    assert [provider.status for provider in manager.providers] == ["active"]


def test_a_tuple_of_records_is_as_good_as_a_list(site: Site):
    manager = PluginManager()
    manager.add(site.module("a_plugin", HEAD + hook(f"return ({RECORD},)")))
    assert manager.observers.names() == ["left-behind"]


def test_records_of_two_hooks_come_into_their_own_registries():
    class Both(Plugin):
        @hookimpl
        def mono_quant_sources(self) -> list[SourceSpec]:
            return [SourceSpec(name="tape", summary="", factory=dict)]

    manager = PluginManager()
    manager.add(Both())
    assert {kind: given for kind, given in names(manager).items() if given} == {
        "observer": ["wide"],
        "source": ["tape"],
    }
