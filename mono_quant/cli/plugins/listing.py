"""``monoquant plugins`` with what each plugin gives, and ``monoquant plugins list``, for which nothing is imported."""

import argparse
import warnings
from typing import Any

from mono_quant._plugins.discovery import installed
from mono_quant._plugins.manager import PluginManager
from mono_quant._plugins.provider import Provider
from mono_quant.cli.output import Console, columns

__all__ = ["add_to", "all_plugins", "show_all"]


def add_to(commands: Any) -> argparse.ArgumentParser:  # noqa: ANN401 - argparse's sub-parsers have no public type
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "list", help="list the installed plugins, importing none", description=__doc__
    )
    parser.set_defaults(run=_show_names)
    return parser


def all_plugins() -> PluginManager:
    """A manager with everything that is installed; broken plugins stand in its list, in strict mode as well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PluginManager.with_plugins(strict=False)


def show_all(arguments: argparse.Namespace, console: Console) -> None:  # noqa: ARG001 - the form of every command
    """Everything: status, import time and components."""
    manager = all_plugins()
    rows = [_row(manager, provider) for provider in manager.providers]
    console.show(rows, columns([_cells(row) for row in rows], right=[3]))


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


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    given = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in row["components"].items())
    where = f"{row['distribution']} {row['version']}"
    return row["name"], where, row["status"], f"{row['import_ms']:.1f} ms", row["error"] or given


def _show_names(arguments: argparse.Namespace, console: Console) -> None:  # noqa: ARG001 - the form of every command
    rows = [
        {
            "name": found.provider.name,
            "distribution": found.provider.distribution,
            "version": found.provider.version,
            "module": found.point.value,
            "blocked": found.provider.error,
        }
        for found in installed()
    ]
    cells = [(r["name"], f"{r['distribution']} {r['version']}", r["module"], r["blocked"]) for r in rows]
    console.show(rows, columns(cells))
