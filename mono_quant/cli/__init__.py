"""The ``monoquant`` command: parses, calls the API, prints. No logic of its own.

====  ==========================================================================
exit  meaning
====  ==========================================================================
0     done
1     a bug in mono_quant or in a plugin; with the whole traceback
2     the request cannot be meant: options, recipes, patterns, names, plugins
3     a file cannot be read or written, also since no format has its suffix
4     the model's or the data's own code raised, or the two do not go together
5     the quantized model failed a check, or none was found that meets the target
====  ==========================================================================

Standard output carries the result alone: what models, data and plugins print goes to standard error, like warnings,
progress and the one message of an error.

A command is a module with `add_to`, which adds its parser; ``run`` of the parsed arguments does the work.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import TextIO

from mono_quant.cli import (
    bench,
    checkpoint,
    compare,
    convert,
    demo,
    dequantize,
    inspect,
    plan,
    plugins,
    quantize,
    recipe,
    sensitivity,
    validate,
)
from mono_quant.cli.output import Console, complete
from mono_quant.cli.user_code import UserCodeError, drawing, shown
from mono_quant.errors import (
    ArtifactError,
    CalibrationError,
    MonoQuantError,
    PluginWarning,
    QuantizationWarning,
    TargetError,
    ValidationError,
)
from mono_quant.version import __version__

__all__ = ["main", "parser"]

_COMMANDS = (
    quantize,
    checkpoint,
    plan,
    sensitivity,
    inspect,
    validate,
    compare,
    convert,
    dequantize,
    recipe,
    bench,
    plugins,
    demo,
)
_REQUEST = 2
_EXIT_CODES: tuple[tuple[type[Exception], int], ...] = (
    (UserCodeError, 4),
    (ArtifactError, 3),
    (CalibrationError, 4),
    (ValidationError, 5),
    (TargetError, 5),
    (MonoQuantError, _REQUEST),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the result is the exit code."""
    parsed = parser().parse_args(arguments)
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as text; `--model module:factory` finds what lies here, as `python -m` does
    console = Console(stream=sys.stdout, wants_json=parsed.json, is_quiet=parsed.quiet)
    try:
        with redirect_stdout(sys.stderr), warnings.catch_warnings():
            if parsed.quiet:
                warnings.simplefilter("ignore")
            warnings.showwarning = _show_warning
            with drawing():
                parsed.run(parsed, console)
    except (MonoQuantError, UserCodeError) as error:
        sys.stderr.write(f"{shown(error)}monoquant: {error}\n")
        return next(code for kind, code in _EXIT_CODES if isinstance(error, kind))
    return 0


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line, for tools that make shell completions or pages of it."""
    whole = argparse.ArgumentParser(prog="monoquant", description="Post-training quantization for any nn.Module.")
    whole.add_argument("--version", action="version", version=f"monoquant {__version__}")
    commands = whole.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        complete(command.add_to(commands))
    return whole


def _show_warning(  # noqa: PLR0917 - the signature of warnings.showwarning
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Ours in one line; those of other libraries as Python shows them, with the place that they come from."""
    stream = sys.stderr if file is None else file
    if issubclass(category, QuantizationWarning | PluginWarning):
        stream.write(f"monoquant: warning: {message}\n")
    else:
        stream.write(warnings.formatwarning(message, category, filename, lineno, line))
