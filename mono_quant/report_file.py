"""The report of a run as a JSON file: all that was measured, so that two runs can be compared."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from mono_quant._atomic import replacing
from mono_quant._json import as_json
from mono_quant.errors import ArtifactError
from mono_quant.info import QuantizationInfo
from mono_quant.io.json_text import parse_object
from mono_quant.io.validation import ValidationResult
from mono_quant.layer_report import LayerReport
from mono_quant.targets.record import Found

__all__ = ["ReportFile", "read_report", "report_values", "write_report"]

_KIND = "mono_quant report, version 1"
_BEGINS = "mono_quant report"
_TOTALS = (
    "sqnr_db", "weight_sqnr_db", "original_size_mb", "quantized_size_mb", "compression_ratio", "original_latency_ms",
    "quantized_latency_ms",
)  # fmt: skip
_FIGURES = (
    "weight_sqnr_db", "output_sqnr_db", "saturation_percent", "range_used_percent", "outlier_channels", "shift_percent",
    "float_bytes", "quantized_bytes",
)  # fmt: skip
_CHOICES = ("layer_type", "scheme", "weight", "input", "observer", "kernels")


@attrs.frozen(kw_only=True)
class ReportFile:
    """What two reports are compared by. Figures that are not in the file are None.

    Args:
        totals: figure of the whole run → value.
        figures: layer → figure → value.
        choices: layer → choice, as ``"scheme"`` and ``"observer"`` → what it is, as text.
    """

    totals: dict[str, float | None]
    figures: dict[str, dict[str, float | None]]
    choices: dict[str, dict[str, str]]


def report_values(
    info: QuantizationInfo,
    validation: ValidationResult | None,
    layers: Sequence[LayerReport],
    found: Found | None,
) -> dict[str, Any]:
    """The parts of a report, by their names in the file."""
    return {"kind": _KIND, "info": info, "validation": validation, "target": found, "layers": tuple(layers)}


def write_report(
    path: str | Path,
    info: QuantizationInfo,
    validation: ValidationResult | None,
    layers: Sequence[LayerReport],
    found: Found | None,
) -> None:
    """Write a report; numbers that JSON has no notation for are text.

    Raises:
        ArtifactError: when it cannot be written.
    """
    text = json.dumps(as_json(report_values(info, validation, layers, found)), indent=2, allow_nan=False)
    with replacing(Path(path)) as temporary:
        temporary.write_text(f"{text}\n", encoding="utf-8")


def read_report(path: str | Path) -> ReportFile | None:
    """What a file says that `write_report` wrote, or ``monoquant quantize --json`` printed; None for another file.

    Keys that are not known are passed over, so that reports of other versions can be compared as far as they go.

    Raises:
        ArtifactError: when the file cannot be read, or says that it is a report and is damaged.
    """
    text = _text_of(Path(path))
    if text is None:
        return None
    try:
        data = parse_object(text, len(text), what=f"{path}")
    except ArtifactError:
        if _BEGINS in text:
            raise
        return None  # a file of another kind, for others to say what is wrong with it
    kind = data.get("kind")
    if not isinstance(kind, str) or not kind.startswith(_BEGINS):
        return None
    if kind != _KIND:
        raise ArtifactError(f"{path} is a {kind!r}, and this version of mono_quant reads {_KIND!r}")
    try:
        return _read(data)
    except (KeyError, TypeError, ValueError, OverflowError) as error:  # an int that no float is
        raise ArtifactError(f"{path} is damaged: {type(error).__name__}: {error}") from error


def _text_of(path: Path) -> str | None:
    """The file as text when it begins as a JSON object does; None when it is something else."""
    try:
        with path.open("rb") as file:
            begin = file.read(64)
            if not begin.lstrip().startswith(b"{") or b"\0" in begin:
                return None
            return (begin + file.read()).decode("utf-8")
    except UnicodeDecodeError:
        return None
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error


def _read(data: Mapping[str, Any]) -> ReportFile:
    info, layers = _mapping(data["info"], "info"), data["layers"]
    validation = {} if data.get("validation") is None else _mapping(data["validation"], "validation")
    if not isinstance(layers, list):
        raise TypeError("'layers' is no list")
    by_name: dict[str, Mapping[str, Any]] = {}
    for layer in layers:
        name = _mapping(layer, "a layer")["name"]
        if not isinstance(name, str) or name in by_name:
            raise ValueError(f"a layer is named {name!r}" + (" twice" if isinstance(name, str) else ""))
        by_name[name] = layer
    return ReportFile(
        totals={name: _number(info.get(name, validation.get(name)), name) for name in _TOTALS},
        figures={
            name: {figure: _number(layer.get(figure), f"{figure} of {name!r}") for figure in _FIGURES}
            for name, layer in by_name.items()
        },
        choices={name: {key: _text(layer.get(key)) for key in _CHOICES} for name, layer in by_name.items()},
    )


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{what} is no JSON object")
    return value


def _number(value: object, what: str) -> float | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return None if value is None else float(value)
    if value in ("inf", "-inf", "nan"):
        return float(str(value))
    raise ValueError(f"{what} is {value!r}, no number")


def _text(value: object) -> str:
    """A choice on one line: a list as its words, a component with its options."""
    if value is None:
        return "-"
    if isinstance(value, list):
        return "+".join(map(str, value)) or "-"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
