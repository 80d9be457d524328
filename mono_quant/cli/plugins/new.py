"""``monoquant plugin new NAME --kind KIND``: write the project of a plugin, whose tests pass as written."""

import argparse
from pathlib import Path
from typing import Any

from mono_quant.cli.output import Console
from mono_quant.scaffold import KINDS, write_project

__all__ = ["add_to"]


def add_to(commands: Any) -> argparse.ArgumentParser:  # noqa: ANN401 - argparse's sub-parsers have no public type
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "new", help="write a project for a plugin of your own", description=__doc__
    )
    parser.add_argument("name", help='of the component, as "percentile"; the project is called mono-quant-percentile')
    parser.add_argument("--kind", choices=KINDS, default="observer", help="what it is")
    parser.add_argument(
        "--into", type=Path, default=Path(), metavar="FOLDER", help="where the project's folder is made"
    )
    parser.set_defaults(run=_run)
    return parser


def _run(arguments: argparse.Namespace, console: Console) -> None:
    folder = write_project(arguments.name, arguments.kind, arguments.into)
    written = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    steps = f"cd {folder} && python -m pip install -e '.[testing]' && pytest"
    console.show({"folder": str(folder), "files": written}, f"{folder}: {', '.join(written)}\nnext: {steps}")
