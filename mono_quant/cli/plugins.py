"""``monoquant plugins``: what is installed, from whom, and whether it works."""

import argparse
import warnings
from typing import Any

from mono_quant._plugins.manager import PluginManager
from mono_quant._plugins.provider import Provider
from mono_quant.cli.output import say, say_json

__all__ = ["add_to"]


def add_to(commands: Any) -> None:  # noqa: ANN401 - argparse's sub-parsers have no public type
    """Add the command."""
    parser = commands.add_parser("plugins", help="show the plugins", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print them as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # broken plugins stand in the list itself
        manager = PluginManager.with_plugins()
    rows = [_row(manager, provider) for provider in manager.providers]
    if arguments.json:
        say_json(rows)
        return
    for row in rows:
        given = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in row["components"].items())
        where = f"{row['distribution']} {row['version']}"
        say(f"{row['name']:<16} {where:<28} {row['status']:<8} {row['import_ms']:7.1f} ms  {row['error'] or given}")


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
