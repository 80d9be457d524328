"""The options that choose layers and components, the same for every command that plans."""

import argparse
import json
from typing import Any

from mono_quant.quantizer import Quantizer

__all__ = ["add_quantizer_arguments", "quantizer_of"]

_COMPONENT = 'default: %(default)s; with options as JSON: {"name": ..., "option": ...}'


def add_quantizer_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `Quantizer`."""
    parser.add_argument("--scheme", type=_component, default="int8-static", metavar="NAME|JSON", help=_COMPONENT)
    parser.add_argument("--observer", type=_component, default="minmax", metavar="NAME|JSON", help=_COMPONENT)
    parser.add_argument(
        "--validator", type=_component, action="append", metavar="NAME|JSON", help="only these checks; can be repeated"
    )
    parser.add_argument("--kernel", default="auto", help="default: %(default)s, by measurement")
    parser.add_argument("--include", action="append", metavar="PATTERN", help="only these layers; can be repeated")
    parser.add_argument("--exclude", action="append", metavar="PATTERN", help="keep these layers in float; likewise")
    parser.add_argument("--num-samples", type=int, default=150, help="batches to draw at most (default: %(default)s)")
    parser.add_argument(
        "--on-failure", default="error", choices=("error", "warn", "ignore"), help="default: %(default)s"
    )
    parser.add_argument("--plugin", action="append", default=[], metavar="MODULE", help="a plugin module to register")
    parser.add_argument("--no-progress", action="store_true", help="no progress bars")


def _component(text: str) -> str | dict[str, Any]:
    """A name, or a JSON object with the name and options."""
    if not text.startswith("{"):
        return text
    try:
        component: dict[str, Any] = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    return component


def quantizer_of(arguments: argparse.Namespace) -> Quantizer:
    """A quantizer with those options."""
    return Quantizer(
        arguments.scheme,
        observer=arguments.observer,
        kernel=arguments.kernel,
        **({} if arguments.validator is None else {"validators": arguments.validator}),
        include=arguments.include,
        exclude=arguments.exclude,
        num_samples=arguments.num_samples,
        on_failure=arguments.on_failure,
        plugins=arguments.plugin,
        show_progress=False if arguments.no_progress else None,
    )
