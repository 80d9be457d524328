"""The ``monoquant`` command: parses, calls the API, prints. No logic of its own.

====  ==========================================================================
exit  meaning
====  ==========================================================================
0     done
1     a bug in mono_quant, in a plugin or in the model; with a traceback
2     the request cannot be meant: options, patterns, names, plugins
3     a file cannot be read or written
4     the model and the calibration data do not go together
5     the quantized model failed a check
====  ==========================================================================
"""

import argparse
import os
import sys
from collections.abc import Sequence

from mono_quant.cli import demo, inspect, plan, plugins, quantize
from mono_quant.errors import ArtifactError, CalibrationError, MonoQuantError, ValidationError
from mono_quant.version import __version__

__all__ = ["main"]

_COMMANDS = (quantize, plan, inspect, plugins, demo)
_REQUEST = 2
_EXIT_CODES: tuple[tuple[type[MonoQuantError], int], ...] = (
    (ArtifactError, 3),
    (CalibrationError, 4),
    (ValidationError, 5),
    (MonoQuantError, _REQUEST),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the result is the exit code."""
    parser = argparse.ArgumentParser(prog="monoquant", description="Post-training quantization for any nn.Module.")
    parser.add_argument("--version", action="version", version=f"monoquant {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_to(commands)
    parsed = parser.parse_args(arguments)
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as text; `--model module:factory` finds what lies here, as `python -m` does
    try:
        parsed.run(parsed)
    except MonoQuantError as error:
        sys.stderr.write(f"monoquant: {error}\n")
        return next(code for kind, code in _EXIT_CODES if isinstance(error, kind))
    except BrokenPipeError:  # the reader of our output went away: `monoquant plan … | head`
        sys.stderr.close()
    return 0
