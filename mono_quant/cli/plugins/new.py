"""``monoquant plugin new NAME --kind KIND``: write the project of a plugin, whose tests pass as written."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from mono_quant._plugins.manager import PluginManager
from mono_quant.cli.output import Console
from mono_quant.errors import ConfigurationError
from mono_quant.scaffold import KINDS, write_project

__all__ = ["add_to"]


def add_to(commands: Any) -> argparse.ArgumentParser:  # noqa: ANN401 - argparse's sub-parsers have no public type
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "new", help="write a project for a plugin of your own", description=__doc__
    )
    parser.add_argument("name", help='of the component, as "spread"; the project is called mono-quant-spread')
    parser.add_argument("--kind", choices=KINDS, default="observer", help="what it is")
    parser.add_argument(
        "--into", type=Path, default=Path(), metavar="FOLDER", help="where the project's folder is made"
    )
    parser.set_defaults(run=_run)
    return parser


def _run(arguments: argparse.Namespace, console: Console) -> None:
    _refuse_taken(arguments.name, arguments.kind)
    folder = write_project(arguments.name, arguments.kind, arguments.into)
    written = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    steps = f"cd {shlex.quote(str(folder))} && python -m pip install -e '.[testing]' && pytest"
    console.show({"folder": str(folder), "files": written}, f"{folder}: {', '.join(written)}\nnext: {steps}")


def _refuse_taken(name: str, kind: str) -> None:
    """Refuse the name of a built-in component: an installed plugin that claims one is not used."""
    registries = PluginManager.with_plugins(autoload=False).registries.values()
    records = [record for registry in registries if registry.kind == kind for record in registry]
    if name in {taken for record in records for taken in (record.spec.name, *record.spec.aliases)}:
        raise ConfigurationError(f"the {kind} {name!r} comes with mono_quant: choose another name")
