"""``monoquant plugins info NAME``: who made a plugin, what it gives, and the options of each component."""

import argparse
from collections.abc import Iterator
from typing import Any

from mono_quant._plugins.inspection import ComponentInfo, PluginInfo, providers_named, tell
from mono_quant.cli.output import Console
from mono_quant.cli.plugins.listing import all_plugins

__all__ = ["add_to"]


def add_to(commands: Any) -> argparse.ArgumentParser:  # noqa: ANN401 - argparse's sub-parsers have no public type
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "info", help="tell all that is known of a plugin", description=__doc__
    )
    parser.add_argument("name", help='of a plugin or of a distribution, as "monoquant plugins list" shows them')
    parser.set_defaults(run=_run)
    return parser


def _run(arguments: argparse.Namespace, console: Console) -> None:
    manager = all_plugins()
    told = [tell(manager, provider) for provider in providers_named(arguments.name)]
    console.show(told, "\n\n".join("\n".join(_lines(one)) for one in told))


def _lines(plugin: PluginInfo) -> Iterator[str]:
    provider = plugin.provider
    yield f"{provider.name}: {plugin.summary or 'no summary'}"
    yield f"  from       {provider.distribution} {provider.version}, module {plugin.module}"
    yield f"  status     {provider.status}{f': {provider.error}' if provider.error else ''}"
    yield f"  import     {provider.import_ms:.1f} ms"
    yield f"  needs      {'; '.join(plugin.requires) or 'nothing'}"
    yield f"  plugin API {'not stated' if plugin.api_version is None else plugin.api_version}"
    yield f"  hooks      {', '.join(plugin.hooks) or 'none'}"
    for component in plugin.components:
        yield from _of_component(component)
    for problem in plugin.problems:
        yield f"  problem    {problem}"


def _of_component(component: ComponentInfo) -> Iterator[str]:
    also = f" (also {', '.join(component.aliases)})" if component.aliases else ""
    yield f"  {component.kind:<10} {component.name}{also}: {component.summary}"
    yield f"             made by {component.factory}"
    for option, default in component.options.items():
        yield f"             option {option}{f' = {default}' if default else ', which must be given'}"
