"""Recipes as text: plain values to TOML or JSON and back, strictly.

TOML has no null and JSON has no infinity; a value that the wanted kind of text cannot say is an error, never a silent
change. Which keys a recipe has is decided by the record that it is read into, see `mono_quant.config`.
"""

import json
import math
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

from mono_quant._json import json_values
from mono_quant._toml import toml_text
from mono_quant.errors import ArtifactError, ConfigurationError

__all__ = ["RecipeKind", "did_you_mean", "kind_of_file", "parse", "read_file", "render", "write_file"]

RecipeKind = Literal["toml", "json"]


def kind_of_file(path: str | Path) -> RecipeKind:
    """The kind of text that the suffix of a file names.

    Raises:
        ConfigurationError: when it names none.
    """
    return _as_kind(Path(path).suffix.lower().removeprefix("."), f"{path}: the suffix of a recipe")


def parse(text: str, kind: RecipeKind | None = None, where: str = "the recipe") -> dict[str, Any]:
    """The values that a text says.

    Args:
        text: TOML or JSON.
        kind: which of them; None sees it by the brace that a JSON object begins with.
        where: what to call the text in messages.

    Raises:
        ConfigurationError: when it is not well formed, gives a key twice, is no table, or holds a date; or, in JSON, a
            number that is not finite.
    """
    text = text.removeprefix("\ufeff")
    kind = _as_kind(kind or ("json" if text.lstrip().startswith("{") else "toml"), "kind")
    try:
        values = tomllib.loads(text) if kind == "toml" else json_values(text)
    except (ValueError, RecursionError) as error:  # both libraries' own errors are a ValueError
        raise ConfigurationError(f"{where} is not {kind.upper()}: {error}") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"{where} must be an object of keys and values, not {type(values).__name__}")
    return {key: _plain(value, None, f"{where}: {key}") for key, value in values.items()}


def render(values: Mapping[str, Any], kind: RecipeKind) -> str:
    """The text that says some values, in their order.

    Raises:
        ConfigurationError: naming a value that has no notation in that kind of text.
    """
    kind = _as_kind(kind, "kind")
    plain = {key: _plain(value, kind, key) for key, value in values.items()}
    if kind == "toml":
        return toml_text(plain)
    return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"


def read_file(path: str | Path) -> dict[str, Any]:
    """The values in a ``.toml`` or ``.json`` file.

    Raises:
        ArtifactError: when it cannot be read.
        ConfigurationError: as `parse`, and when it is not UTF-8.
    """
    kind = kind_of_file(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text: {error}") from error
    return parse(text, kind, str(path))


def write_file(values: Mapping[str, Any], path: str | Path) -> None:
    """Write values as the suffix says.

    Raises:
        ArtifactError: when the file cannot be written.
        ConfigurationError: as `render`; then nothing is written.
    """
    text = render(values, kind_of_file(path))
    try:
        Path(path).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written: {error}") from error


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: the known one that is most like it, if one is.

    >>> did_you_mean("num_sample", ["num_samples", "scheme"])
    "; did you mean 'num_samples'?"
    """
    close = get_close_matches(str(word), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _as_kind(kind: str, what: str) -> RecipeKind:
    for known in get_args(RecipeKind):
        if kind == known:
            return known  # type: ignore[no-any-return]
    raise ConfigurationError(f"{what} must be one of {', '.join(map(repr, get_args(RecipeKind)))}, got {kind!r}")


def _plain(value: object, kind: RecipeKind | None, where: str) -> Any:  # noqa: ANN401 - text, numbers, lists, tables
    """The value with lists for tuples, when the kind of text has a notation for it; None asks for either kind."""
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise ConfigurationError(f"{where}: {value!r} holds a surrogate, which no text file can say")
        return value
    if isinstance(value, float) and not math.isfinite(value) and kind == "json":
        raise ConfigurationError(f"{where}: JSON has no number for {value!r}: write the recipe as TOML")
    if value is None and kind == "toml":
        raise ConfigurationError(f"{where}: TOML has no null: leave the option out, or write the recipe as JSON")
    if isinstance(value, bool | int | float | None):
        return value
    if isinstance(value, list | tuple):
        return [_plain(inner, kind, f"{where}[{index}]") for index, inner in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {_plain(key, kind, where): _plain(inner, kind, f"{where}.{key}") for key, inner in value.items()}
    raise ConfigurationError(
        f"{where}: {value!r} is a {type(value).__name__}: a recipe holds text, numbers, true, false, lists and tables"
    )
