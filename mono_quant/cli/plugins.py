"""``monoquant plugins``: what is installed, from whom, and whether it works."""

import argparse
import warnings
from typing import Any

from mono_quant._plugins.manager import PluginManager
from mono_quant._plugins.provider import Provider
from mono_quant.cli.output import Console

__all__ = ["add_to"]


def add_to(commands: Any) -> argparse.ArgumentParser:  # noqa: ANN401 - argparse's sub-parsers have no public type
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser("plugins", help="show the plugins", description=__doc__)
    parser.set_defaults(run=_run)
    return parser


def _run(arguments: argparse.Namespace, console: Console) -> None:  # noqa: ARG001 - the form of every command
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # broken plugins stand in the list itself
        manager = PluginManager.with_plugins()
    rows = [_row(manager, provider) for provider in manager.providers]
    console.show(rows, "\n".join(map(_line, rows)))


def _row(manager: PluginManager, provider: Provider) -> dict[str, Any]:
    return {
        "name": provider.name,
        "distribution": provider.distribution,
        "version": provider.version,
        "status": provider.status,
        "error": provider.error,
        "import_ms": round(provider.import_ms, 3),
        "components": manager.components(provider),
    }


def _line(row: dict[str, Any]) -> str:
    given = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in row["components"].items())
    where = f"{row['distribution']} {row['version']}"
    return f"{row['name']:<16} {where:<28} {row['status']:<8} {row['import_ms']:7.1f} ms  {row['error'] or given}"
