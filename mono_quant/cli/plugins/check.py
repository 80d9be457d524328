"""``monoquant plugins check [NAME]``: import plugins, each in a new process, make their components, find conflicts."""

import argparse
import json
import os
import subprocess
import sys
from typing import Any

from mono_quant._plugins.discovery import installed
from mono_quant._plugins.inspection import providers_named
from mono_quant.cli.output import Console
from mono_quant.errors import PluginError

__all__ = ["add_to"]

_TOO_LONG_S = 120


def add_to(commands: Any) -> argparse.ArgumentParser:  # noqa: ANN401 - argparse's sub-parsers have no public type
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "check", help="try whether plugins work; fails when one does not", description=__doc__
    )
    parser.add_argument("name", nargs="?", help="of a plugin or of a distribution; all third parties when left out")
    parser.set_defaults(run=_run)
    return parser


def _run(arguments: argparse.Namespace, console: Console) -> None:
    providers = (
        [found.provider for found in installed() if not found.provider.is_builtin]
        if arguments.name is None
        else providers_named(arguments.name)
    )
    checked = [_check(provider.name, provider.distribution) for provider in providers]
    lines = [line for plugin in checked for line in _lines(plugin)]
    console.show(checked, "\n".join(lines) or "no third-party plugin is installed")
    wrong = [plugin["provider"]["name"] for plugin in checked if plugin["problems"]]
    if wrong:
        raise PluginError(f"{len(wrong)} of {len(checked)} plugins have problems: {', '.join(wrong)}")


def _check(name: str, distribution: str) -> dict[str, Any]:
    """What a new process finds that imports no other third party: the import time is its own, and so is a crash."""
    command = [sys.executable, "-P", "-m", "mono_quant", "plugins", "info", distribution, "--json"]
    switches = {"MONO_QUANT_ALLOW_PLUGINS": distribution}
    try:
        ran = subprocess.run(  # noqa: S603 - ourselves
            command, capture_output=True, text=True, check=False, timeout=_TOO_LONG_S, env={**os.environ, **switches}
        )
    except subprocess.TimeoutExpired:
        return _crashed(name, distribution, f"it takes more than {_TOO_LONG_S} s")
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or ["no message"])[-1]
        return _crashed(name, distribution, f"Python ended with code {ran.returncode}: {last}")
    told: dict[str, Any] = next(one for one in json.loads(ran.stdout) if one["provider"]["name"] == name)
    return told


def _crashed(name: str, distribution: str, problem: str) -> dict[str, Any]:
    return {"provider": {"name": name, "distribution": distribution}, "components": [], "problems": [problem]}


def _lines(plugin: dict[str, Any]) -> list[str]:
    provider = plugin["provider"]
    given = ", ".join(f"{one['kind']} {one['name']}" for one in plugin["components"])
    took = f" in {provider['import_ms']:.1f} ms" if "import_ms" in provider else ""
    head = f"{provider['name']} ({provider['distribution']}): {given or 'no components'}{took}"
    return [head, *(f"  problem: {problem}" for problem in plugin["problems"] or ["none"])]
