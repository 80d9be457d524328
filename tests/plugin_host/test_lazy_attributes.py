"""Only functions with the hooks' prefix are read from a plugin: nothing else of it runs."""

from functools import cached_property

from fake_distributions import Site, observer

from mono_quant import hookimpl
from mono_quant._plugins.manager import PluginManager
from mono_quant.plugin_api import ObserverSpec


class Costly:
    """An instance whose attributes must not be read."""

    def __init__(self) -> None:
        self.read: list[str] = []

    @hookimpl
    def mono_quant_observers(self) -> list[ObserverSpec]:
        return [ObserverSpec(name="wide", summary="", factory=dict)]

    @property
    def connection(self) -> None:
        self.read.append("connection")

    @cached_property
    def table(self) -> None:
        self.read.append("table")

    @property
    def mono_quant_table(self) -> None:
        self.read.append("mono_quant_table")

    @cached_property
    def mono_quant_cache(self) -> None:
        self.read.append("mono_quant_cache")

    def __getattr__(self, name: str) -> object:
        self.read.append(name)
        raise AttributeError(name)


def test_no_property_of_a_plugin_runs():
    plugin = Costly()
    manager = PluginManager()
    manager.add(plugin)
    assert (manager.observers.names(), plugin.read) == (["wide"], [])


def test_no_lazy_export_of_a_plugin_module_runs(site: Site):
    lazy = (
        "read = []\n"
        "def __dir__():\n    return [*globals(), 'Lazy', 'mono_quant_lazy']\n"
        "def __getattr__(name):\n    read.append(name)\n    raise AttributeError(name)\n"
    )
    site.install("mono-quant-lazy", lazy + observer("wide"))
    manager = PluginManager.with_plugins()
    module = next(module for _, module in manager.list_name_plugin() if module.__name__ == "mono_quant_lazy")
    # Python's own import machinery asks every module for some of its dunder names.
    assert [name for name in module.read if not name.startswith("__")] == []
    assert "wide" in manager.observers.names()


def test_a_submodule_whose_name_has_the_prefix_is_no_hook(site: Site):
    site.module("mono_quant_helper", "")
    manager = PluginManager()
    manager.add(site.module("a_plugin", f"import mono_quant_helper\n{observer('wide')}"))
    assert manager.observers.names() == ["wide"]
