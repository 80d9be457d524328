"""``monoquant plugins``: what is installed, from whom, and whether it works; and a project for a new plugin."""

import argparse
from typing import Any

from mono_quant.cli.output import complete
from mono_quant.cli.plugins import check, info, listing, new

__all__ = ["add_to"]


def add_to(commands: Any) -> argparse.ArgumentParser:  # noqa: ANN401 - argparse's sub-parsers have no public type
    """Add the command with its own commands; without one of them everything is shown."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "plugins", aliases=["plugin"], help="show, check and begin plugins", description=__doc__
    )
    parser.set_defaults(run=listing.show_all)
    inner = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in (listing, info, check, new):
        complete(command.add_to(inner), default=argparse.SUPPRESS)
    return parser
