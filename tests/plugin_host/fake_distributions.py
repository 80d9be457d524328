"""Installed distributions as pip leaves them: a module and a ``.dist-info`` folder in a folder on ``sys.path``."""

import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from mono_quant._plugins.discovery import refresh

BROKEN = "import a_module_that_nobody_has"
"""The code of a plugin whose dependency is missing."""

_OBSERVER = """\
from mono_quant import hookimpl
from mono_quant.core.observers import MinMaxObserver
from mono_quant.plugin_api import ObserverSpec

class TheObserver(MinMaxObserver):
    def __init__(self, *, width: float = 1.0, **common):
        super().__init__(**common)
        self.width = width

@hookimpl
def mono_quant_observers():
    return [ObserverSpec(name="NAME", summary="a test's observer", factory=TheObserver, aliases=ALIASES)]
"""


def observer(name: str, *, aliases: tuple[str, ...] = ()) -> str:
    """The code of a plugin that provides one observer, with the option ``width``."""
    return _OBSERVER.replace("NAME", name).replace("ALIASES", repr(aliases))


class Site:
    """A folder that distributions are installed into.

    Args:
        folder: is on ``sys.path``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(
        self, name: str, code: str | None = None, *, version: str = "1.0", points: Mapping[str, str] | None = None
    ) -> str:
        """Install a distribution; the result is the name of its module.

        Args:
            name: of the distribution.
            code: of its module; None for no module.
            version: of the distribution.
            points: its entry points; the last word of its name for the module when none are given.
        """
        module = re.sub(r"[-_.]+", "_", name).lower()
        if code is not None:
            self.module(module, code)
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = [f"{point} = {value}" for point, value in (points or {name.rpartition("-")[2]: module}).items()]
        (info / "entry_points.txt").write_text("\n".join(["[mono_quant.plugins]", *lines, ""]))
        refresh()
        return module

    def uninstall(self, name: str) -> None:
        """Remove the ``.dist-info`` folder of a distribution."""
        shutil.rmtree(next(self.folder.glob(f"{name.replace('-', '_')}-*.dist-info")))
        refresh()

    def module(self, name: str, code: str) -> str:
        """Write a module that belongs to no distribution; the result is its name."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / f"{name}.py").write_text(code)
        return name

    def forget_modules(self) -> None:
        """Drop what was imported from here."""
        for name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", None) or "").startswith(str(self.folder)):
                del sys.modules[name]
