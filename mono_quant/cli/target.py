"""Targets as a command line can name them."""

import argparse

from mono_quant.cli.inputs import metric_of
from mono_quant.errors import ConfigurationError
from mono_quant.targets.target import MaxDrop, MaxSize, MinSQNR, Target

__all__ = ["add_target_arguments", "target_of"]


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """``--min-sqnr``, ``--max-drop`` with ``--metric``, ``--max-size``."""
    options = parser.add_argument_group(
        "target",
        "Layers are given other schemes, or kept in float, as far as the target needs; it exits 5 if none meets it.",
    )
    options.add_argument("--min-sqnr", type=float, metavar="DB", help="of the output, on the first batches of the data")
    options.add_argument("--max-drop", type=float, metavar="DROP", help="of the metric, below that of the float model")
    options.add_argument("--metric", metavar="MODULE:NAME", help="a function of a model; higher is better")
    options.add_argument("--max-size", metavar="SIZE", help="of the tensors: 25MB, 300KB or bytes")


def target_of(arguments: argparse.Namespace) -> Target | None:
    """The target that is asked for; None for none.

    Raises:
        ConfigurationError: when it cannot be meant, or the metric cannot be imported.
    """
    given = [name for name in ("min_sqnr", "max_drop", "max_size") if getattr(arguments, name) is not None]
    if len(given) > 1:
        raise ConfigurationError(f"one target at a time: got {' and '.join('--' + n.replace('_', '-') for n in given)}")
    if (arguments.max_drop is None) != (arguments.metric is None):
        raise ConfigurationError("--max-drop and --metric go together: how far which figure may fall")
    if arguments.min_sqnr is not None:
        return MinSQNR(arguments.min_sqnr)
    if arguments.max_drop is not None:
        return MaxDrop(metric_of(arguments.metric), arguments.max_drop)
    if arguments.max_size is not None:
        size = arguments.max_size
        return MaxSize(int(size) if size.isascii() and size.isdigit() else size)
    return None
