"""The options that make a configuration, the same for every command that plans: a recipe, and what wins over it."""

import argparse
import json
import sys
from typing import Any, get_args

import attrs

from mono_quant.cli.inputs import add_plugin_argument
from mono_quant.config import OnFailure, QuantizationConfig
from mono_quant.errors import ConfigurationError
from mono_quant.quantizer import Quantizer
from mono_quant.targets import Target

__all__ = ["add_quantizer_arguments", "as_component", "quantizer_of"]

_DEFAULT = QuantizationConfig()
_FIELDS = (
    "scheme", "observer", "validators", "algorithms", "kernel", "fuse", "runtime", "include", "exclude",
    "min_parameters", "num_samples", "on_failure", "format", "on_refusal",
)  # fmt: skip
"""The fields of a configuration that options give, each under its own name."""


def add_quantizer_arguments(parser: argparse.ArgumentParser) -> None:
    """``--recipe``, and options of `Quantizer` that win over it."""
    options = parser.add_argument_group(
        "layers and components", "An option given here wins over the recipe; a list takes the place of the recipe's."
    )
    options.add_argument("--recipe", metavar="FILE", help=".toml or .json; - reads either from standard input")
    options.add_argument(
        "--scheme",
        type=as_component,
        metavar="NAME|JSON",
        help=f'default: {_DEFAULT.scheme.name}; with options as JSON: {{"name": ..., "option": ...}}',
    )
    options.add_argument(
        "--observer", type=as_component, metavar="NAME|JSON", help=f"default: {_DEFAULT.observer.name}; likewise"
    )
    options.add_argument(
        "--validator",
        dest="validators",
        type=as_component,
        action="append",
        metavar="NAME|JSON",
        help="only these checks; can be repeated",
    )
    options.add_argument(
        "--algorithm",
        dest="algorithms",
        type=as_component,
        action="append",
        metavar="NAME|JSON",
        help="only these rewrites of the float model, in order; can be repeated; default: "
        f"{', '.join(algorithm.name for algorithm in _DEFAULT.algorithms)}",
    )
    options.add_argument("--kernel", metavar="NAME", help=f"default: {_DEFAULT.kernel}, by measurement")
    options.add_argument(
        "--fuse", action=argparse.BooleanOptionalAction, help="apply activations in kernels, keep codes; default: yes"
    )
    options.add_argument(
        "--runtime",
        type=as_component,
        metavar="NAME|JSON",
        help=f"what is to run the model when it is compiled; default: {_DEFAULT.runtime.name}, by measurement",
    )
    options.add_argument("--include", action="append", metavar="PATTERN", help="only these layers; can be repeated")
    options.add_argument("--exclude", action="append", metavar="PATTERN", help="keep these layers in float; likewise")
    options.add_argument(
        "--min-parameters", type=int, metavar="COUNT", help="keep layers with fewer weights in float; default: 0"
    )
    options.add_argument(
        "--num-samples", type=int, metavar="COUNT", help=f"batches to draw at most; default: {_DEFAULT.num_samples}"
    )
    options.add_argument("--on-failure", choices=get_args(OnFailure), help=f"default: {_DEFAULT.on_failure}")
    options.add_argument(
        "--format",
        type=as_component,
        metavar="NAME|JSON",
        help="what it is to be saved in, and is asked first what it can hold; default: by the suffix of the output",
    )
    options.add_argument(
        "--on-refusal",
        type=as_component,
        metavar="error|keep|SCHEME",
        help=f"what becomes of layers that the format cannot hold; default: {_DEFAULT.on_refusal.name}",
    )
    add_plugin_argument(parser)


def as_component(text: str) -> str | dict[str, Any]:
    """A name, or a JSON object with the name and options.

    Raises:
        argparse.ArgumentTypeError: when it begins like JSON and is none.
    """
    if not text.startswith("{"):
        return text
    try:
        component: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    return component


def quantizer_of(
    arguments: argparse.Namespace,
    *,
    show_progress: bool | None = None,
    target: Target | None = None,
    output: str | None = None,
) -> Quantizer:
    """A quantizer with those options.

    Args:
        arguments: of the command.
        show_progress: as `Quantizer` takes it.
        target: likewise.
        output: where the model is to be saved. A format that it chooses and that may refuse layers is asked.

    Raises:
        ArtifactError: when the recipe cannot be read, or no format has the suffix of the output.
        ConfigurationError: when the recipe, or an option, cannot be meant.
    """
    given: dict[str, Any] = {name: getattr(arguments, name) for name in _FIELDS}
    config = attrs.evolve(
        _recipe(arguments.recipe), **{name: value for name, value in given.items() if value is not None}
    )
    options: dict[str, Any] = {"plugins": arguments.plugin, "show_progress": show_progress, "target": target}
    quantizer = Quantizer.from_config(config, **options)
    if output is None or config.format is not None:
        return quantizer
    chosen = quantizer.components.refusing_format(output)
    return quantizer if chosen is None else Quantizer.from_config(attrs.evolve(config, format=chosen), **options)


def _recipe(where: str | None) -> QuantizationConfig:
    if where is None:
        return _DEFAULT
    if where != "-":
        return QuantizationConfig.from_file(where)
    try:
        text = sys.stdin.read()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"standard input is not text: {error}") from error
    return QuantizationConfig.from_text(text, where="standard input")
