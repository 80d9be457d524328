"""Writing the project from templates, in which ``example-thing`` stands for the plugin's name."""

import re
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path

from mono_quant.errors import ConfigurationError
from mono_quant.version import __version__

__all__ = ["KINDS", "write_project"]

KINDS = ("observer", "source", "scheme", "format", "validator", "kernel", "algorithm", "runtime")

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_PREFIX = "mono-quant-"
_ALIKE = {
    "pyproject.toml": "pyproject.toml.txt",
    "noxfile.py": "noxfile.py.txt",
    "README.md": "README.md.txt",
    ".gitignore": "gitignore.txt",
}
"""What is the same for every kind: file → template."""


def write_project(name: str, kind: str, parent: Path) -> Path:
    """Write the project of a plugin with one component; all of it or nothing.

    Args:
        name: of the component, ``"spread"``; the distribution is called ``mono-quant-spread``.
        kind: one of `KINDS`.
        parent: the folder that the project's folder is made in.

    Returns:
        the project's folder.

    Raises:
        ConfigurationError: when the name or kind cannot be meant, or the folder is there already.
    """
    name = name.removeprefix(_PREFIX)
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"a plugin is named by lower-case words joined by hyphens, as 'spread', not {name!r}")
    if kind not in KINDS:
        raise ConfigurationError(f"there is no kind {kind!r} of plugin; there are {', '.join(KINDS)}")
    folder = parent / f"{_PREFIX}{name}"
    if folder.exists():
        raise ConfigurationError(f"{folder} is there already: remove it, or choose another name or folder")
    package = f"mono_quant_{name.replace('-', '_')}"
    made = {target: _filled(template, name, kind) for target, template in _ALIKE.items()}
    made[f"src/{package}/__init__.py"] = _filled(f"{kind}.py.txt", name, kind)
    made[f"src/{package}/py.typed"] = ""
    made[f"tests/test_{package}.py"] = _filled(f"test_{kind}.py.txt", name, kind)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".mono-quant-", dir=parent) as scratch:
            for target, text in made.items():
                path = Path(scratch) / "project" / target
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            shutil.move(Path(scratch) / "project", folder)
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written: {error}") from error
    return folder


def _filled(template: str, name: str, kind: str) -> str:
    text = (files("mono_quant.scaffold") / "templates" / template).read_text(encoding="utf-8")
    words = name.split("-")
    spoken = words[:-1] if words[-1] == kind and len(words) > 1 else words  # no ExampleObserverObserver
    for placeholder, value in (
        ("example-thing", name),
        ("example_thing", "_".join(words)),
        ("ExampleThing", "".join(word.capitalize() for word in spoken)),
        ("example-kind", kind),
        ("ExampleKind", kind.capitalize()),
        ("example-version", __version__),
    ):
        text = text.replace(placeholder, value)
    return text
