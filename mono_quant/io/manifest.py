"""The manifest: what a saved file says about itself beside its tensors."""

import json
from functools import partial
from types import GenericAlias
from typing import Any, get_args, get_origin

import attrs
import cattrs
from cattrs.errors import ClassValidationError, IterableValidationError
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from mono_quant.config import QuantizationConfig
from mono_quant.core.granularity import Granularity, as_granularity
from mono_quant.core.qtypes import QType, as_qtype
from mono_quant.errors import ArtifactError, MonoQuantError
from mono_quant.plugin_api.artifact import JSON
from mono_quant.plugin_api.plan import LayerPlan, Rewrite

__all__ = ["FORMAT_VERSION", "CalibrationRecord", "Manifest", "read_manifest", "write_manifest"]

FORMAT_VERSION = 1


@attrs.frozen(kw_only=True)
class CalibrationRecord:
    """Which data a model was calibrated with.

    Args:
        batches: how many were drawn.
        first_batch_sha256: `fingerprint` of the first.
    """

    batches: int
    first_batch_sha256: str


@attrs.frozen(kw_only=True)
class Manifest:
    """All that loading needs besides the tensors, and how the file came to be.

    Args:
        format_version: version of this record.
        config: the recipe of the run.
        layers: the quantized layers, by name.
        kept: the layers left in float, name → reason.
        rewrites: changes of the float model, in order.
        ties: tensor name → the name under which the shared tensor is stored.
        versions: package, torch and plugins, name → version.
        metrics: figures of the run: sizes in MB, ratio, SQNR in dB.
        layer_sqnr_db: SQNR in dB of each quantized layer's weights.
        calibration: the data it was calibrated with; None when it needed none.
    """

    format_version: int = FORMAT_VERSION
    config: QuantizationConfig
    layers: dict[str, LayerPlan]
    kept: dict[str, str]
    rewrites: tuple[Rewrite, ...]
    ties: dict[str, str]
    versions: dict[str, str]
    metrics: dict[str, float | None]
    layer_sqnr_db: dict[str, float | None]
    calibration: CalibrationRecord | None


def write_manifest(manifest: Manifest) -> dict[str, JSON]:
    """The manifest as JSON values; an option that is none, as a function is, is written down by its name."""
    text = json.dumps(_converter.unstructure(manifest), default=_name_of)
    return json.loads(text)  # type: ignore[no-any-return]


def read_manifest(data: dict[str, JSON]) -> Manifest:
    """The manifest from JSON values; an unknown key is refused.

    Raises:
        ArtifactError: when it is of another version or not well formed.
    """
    version = data.get("format_version")
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"the file has manifest version {version!r}; this mono_quant reads version {FORMAT_VERSION}"
        )
    try:
        return _converter.structure(data, Manifest)
    except (ClassValidationError, IterableValidationError) as error:
        raise ArtifactError(f"the manifest is not well formed: {'; '.join(cattrs.transform_error(error))}") from error
    except (MonoQuantError, ValueError, TypeError, KeyError) as error:
        raise ArtifactError(f"the manifest is not well formed: {error}") from error


def _name_of(value: object) -> str:
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def _exact(value: object, kind: type) -> object:
    """The value as it is, where cattrs alone would take the text "no" for true."""
    if type(value) is kind or (kind is float and type(value) is int):
        return value
    raise TypeError(f"{value!r} is not of type {kind.__name__}")


def _is_tuple(kind: object) -> bool:
    return get_origin(kind) is tuple


def _tuple_of_a_list(values: object, kind: Any, converter: cattrs.Converter) -> tuple[Any, ...]:  # noqa: ANN401 - a type
    """A list's values, where cattrs alone would take the letters of a text and the keys of an object."""
    if not isinstance(values, list):
        raise TypeError(f"{values!r} is not a list")
    as_list: Any = GenericAlias(list, get_args(kind)[:1])
    return tuple(converter.structure(values, as_list))


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook_func(_is_tuple, partial(_tuple_of_a_list, converter=converter))
    for kind in (bool, int, float, str):
        converter.register_structure_hook(kind, _exact)
    converter.register_unstructure_hook(QType, lambda qtype: qtype.name)
    converter.register_structure_hook(QType, lambda name, _: as_qtype(name))
    converter.register_unstructure_hook_func(lambda cls: cls is Granularity, str)
    converter.register_structure_hook_func(lambda cls: cls is Granularity, lambda text, _: as_granularity(text))
    converter.register_unstructure_hook(
        Rewrite, make_dict_unstructure_fn(Rewrite, converter, values=override(omit=True))
    )
    converter.register_structure_hook(
        Rewrite,
        make_dict_structure_fn(Rewrite, converter, _cattrs_forbid_extra_keys=True, values=override(omit=True)),
    )
    return converter


_converter = _make_converter()
