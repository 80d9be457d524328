"""Models, data and files as a command line can name them."""

import argparse
from collections.abc import Callable, Iterable
from functools import wraps
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from mono_quant.cli.user_code import running
from mono_quant.errors import ArtifactError, ConfigurationError
from mono_quant.io.files import load_model
from mono_quant.io.plain_file import read_plain

__all__ = [
    "add_data_arguments",
    "add_model_arguments",
    "add_plugin_argument",
    "at_least_one",
    "data_of",
    "metric_of",
    "model_of",
    "refuse_overwriting",
]

_WHAT_DATA_IS = "data is a tensor, a list of tensors or a mapping of names to tensors"


def add_model_arguments(parser: argparse.ArgumentParser, *, is_required: bool = True) -> None:
    """``--model`` and ``--weights``."""
    parser.add_argument(
        "--model", required=is_required, metavar="MODULE:NAME", help="a class, function or model object to import"
    )
    alone = "" if is_required else "; without --model, what is quantized by names and shapes: also a sharded index"
    parser.add_argument("--weights", metavar="FILE", help=f"its state_dict: .safetensors, .pt, .pth{alone}")


def add_data_arguments(parser: argparse.ArgumentParser, *, why: str, is_required: bool = False) -> None:
    """``--data``."""
    parser.add_argument(
        "--data",
        required=is_required,
        metavar="MODULE:NAME|FILE",
        help=f"{why}: an iterable to import, or a function that gives one, or a file of tensors",
    )


def add_plugin_argument(parser: argparse.ArgumentParser) -> None:
    """``--plugin``."""
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="MODULE",
        help="a plugin module to register besides the installed ones; can be repeated",
    )


def at_least_one(text: str) -> int:
    """A whole number for argparse.

    Raises:
        argparse.ArgumentTypeError: when it is none, or below 1.
    """
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def refuse_overwriting(output: str, *inputs: str | None, option: str = "--output") -> None:
    """Refuse an output that is one of the inputs, by whatever link.

    Raises:
        ConfigurationError: naming it.
    """
    for one in inputs:
        if one is not None and Path(one).exists() and Path(output).exists() and Path(output).samefile(one):
            raise ConfigurationError(f"{option} {output} would overwrite the input {one}: choose another file")


def _import_named(where: str) -> Any:  # noqa: ANN401 - an nn.Module or a callable
    """What ``MODULE:NAME`` names.

    Raises:
        ConfigurationError: when there is no such module, or nothing of that name in it.
        UserCodeError: when the module is there and its import raises.
    """
    module, _, names = where.partition(":")
    if not module or not names:
        raise ConfigurationError(f"{where!r} must be MODULE:NAME, for instance my_package.models:build")
    with running(f"importing {where}"):
        found: Any = _imported(module, names)
        for name in names.split("."):
            if not hasattr(found, name):
                raise ConfigurationError(f"{where!r} cannot be imported: {module} has no {names!r}")
            found = getattr(found, name)
    return found


def _imported(module: str, names: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, and what is missing is one that it imports
        dotted = module.removesuffix(".py").removeprefix("./").replace("/", ".")
        hint = "" if dotted == module else f"; it is imported by its name, not as a file: {dotted}:{names}?"
        raise ConfigurationError(f"'{module}:{names}' cannot be imported: {error}{hint}") from error


def model_of(arguments: argparse.Namespace) -> nn.Module:
    """The model of ``--model``, with ``--weights`` in it.

    Raises:
        ConfigurationError: when it is no module, or there is none.
        UserCodeError: when its own code raises.
        ArtifactError: when the weights do not fit.
    """
    if arguments.model is None:
        raise ConfigurationError("give --model, or, for schemes that quantize weights alone, only --weights")
    named = _import_named(arguments.model)
    model = _called(named, arguments.model) if callable(named) and not isinstance(named, nn.Module) else named
    if not isinstance(model, nn.Module):
        raise ConfigurationError(
            f"{arguments.model!r} gives a value of type {type(model).__name__}, not an nn.Module: name one, or a "
            "class or function without arguments that makes one"
        )
    if arguments.weights is not None:
        try:
            model.load_state_dict(load_model(arguments.weights), strict=True)
        except RuntimeError as error:  # torch lists missing, unexpected and misshaped keys
            raise ArtifactError(f"{arguments.weights} does not fit {arguments.model}: {error}") from error
    return model


def metric_of(where: str) -> Callable[[nn.Module], float]:
    """The function of ``--metric``.

    Raises:
        ConfigurationError: when there is none.
        UserCodeError: when its module raises; so does the function, when it does.
    """
    named = _import_named(where)
    if not callable(named):
        raise ConfigurationError(f"--metric {where} is of type {type(named).__name__}, not a function of a model")

    @wraps(named)
    def metric(model: nn.Module) -> float:
        with running(f"the metric {where}"):
            return float(named(model))

    return metric


def _called(named: Any, where: str) -> Any:  # noqa: ANN401
    with running(f"calling {where} without arguments"):
        return named()


def data_of(where: str, batch_size: int) -> Iterable[Any]:
    """The data of ``--data``.

    A file with one tensor is cut into batches of ``batch_size`` rows; in one with several, each is a batch.

    Raises:
        ConfigurationError: when it cannot be imported.
        UserCodeError: when its own code raises.
        ArtifactError: when the file cannot be read.
    """
    if ":" in where and not Path(where).exists():
        named = _import_named(where)
        data: Iterable[Any] = _called(named, where) if callable(named) else named
        return data
    tensors = _tensors_of(Path(where))
    return list(torch.split(tensors[0], batch_size)) if len(tensors) == 1 else tensors


def _tensors_of(path: Path) -> list[Tensor]:
    """All tensors in a file: a ``state_dict``-like mapping in the order of its names, a list, or one tensor."""
    if path.suffix not in {".pt", ".pth"}:
        return [tensor for _, tensor in sorted(load_model(path).items())]
    try:
        content = read_plain(path)
    except Exception as error:  # torch.load raises many kinds for files that are not its own
        raise ArtifactError(f"{path} cannot be read as tensors: {error}") from error
    if isinstance(content, dict) and set(content) == {"tensors", "mono_quant"}:
        content = content["tensors"]  # a file that save_model wrote
    content = [content] if isinstance(content, Tensor) else content
    named = dict(enumerate(content)) if isinstance(content, list | tuple) else content
    if not isinstance(named, dict):
        raise ArtifactError(f"{path} holds a value of type {type(named).__name__}: {_WHAT_DATA_IS}")
    for name, value in named.items():
        if not isinstance(value, Tensor):
            raise ArtifactError(f"{path}: its entry {name!r} is of type {type(value).__name__}: {_WHAT_DATA_IS}")
    if not named:
        raise ArtifactError(f"{path} holds no tensors: {_WHAT_DATA_IS}")
    return list(named.values())
