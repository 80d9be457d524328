"""The options that choose layers and components, the same for every command that plans."""

import argparse

from mono_quant.quantizer import Quantizer

__all__ = ["add_quantizer_arguments", "quantizer_of"]


def add_quantizer_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `Quantizer`."""
    parser.add_argument("--scheme", default="int8-static", help="default: %(default)s")
    parser.add_argument("--observer", default="minmax", help="default: %(default)s")
    parser.add_argument("--kernel", default="auto", help="default: %(default)s, by measurement")
    parser.add_argument("--include", action="append", metavar="PATTERN", help="only these layers; can be repeated")
    parser.add_argument("--exclude", action="append", metavar="PATTERN", help="keep these layers in float; likewise")
    parser.add_argument("--num-samples", type=int, default=150, help="batches to draw at most (default: %(default)s)")
    parser.add_argument(
        "--on-failure", default="error", choices=("error", "warn", "ignore"), help="default: %(default)s"
    )
    parser.add_argument("--plugin", action="append", default=[], metavar="MODULE", help="a plugin module to register")
    parser.add_argument("--no-progress", action="store_true", help="no progress bars")


def quantizer_of(arguments: argparse.Namespace) -> Quantizer:
    """A quantizer with those options."""
    return Quantizer(
        arguments.scheme,
        observer=arguments.observer,
        kernel=arguments.kernel,
        include=arguments.include,
        exclude=arguments.exclude,
        num_samples=arguments.num_samples,
        on_failure=arguments.on_failure,
        plugins=arguments.plugin,
        show_progress=False if arguments.no_progress else None,
    )
