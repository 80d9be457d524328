"""The manifest: everything comes back, and nothing that is not known is taken."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from small_models import FEATURES, mlp, quantize, rows
from torch import nn

from mono_quant import QuantizationConfig, QuantizationResult
from mono_quant.errors import ArtifactError
from mono_quant.io.manifest import CalibrationRecord, Manifest, read_manifest, write_manifest
from mono_quant.plugin_api import Rewrite

CONFIGS = [
    QuantizationConfig(),
    QuantizationConfig(
        scheme={"name": "int8-static", "saturation": "full-range"},
        observer={"name": "spread", "k": 3.0, "nested": {"a": [1, None, "x"]}},
        source="dataloader",
        validators=(),
        algorithms=["bn-fold", {"name": "smooth", "alpha": 0.5}],
        include=["encoder.*", nn.Linear, r"re:.*\d"],
        exclude="head",
        overrides={"a": None, nn.Conv2d: {"observer": {"name": "minmax"}}, "b": {"scheme": "int8-static"}},
        kernel="reference",
        num_samples=7,
        on_failure="warn",
    ),
]


def manifest(**changes: object) -> Manifest:
    fields = {
        "config": QuantizationConfig(),
        "layers": {},
        "kept": {"norm": "reason: 'quoted' \"twice\" ü \n"},
        "rewrites": (Rewrite(algorithm="bn-fold", layers=("a", "b"), removed={"b": "a"}),),
        "ties": {"head.weight": "table.weight"},
        "versions": {"torch": "2.13.0+cpu"},
        "metrics": {"sqnr_db": None, "compression_ratio": 3.25},
        "layer_sqnr_db": {"0": 41.5, "2": None},
        "calibration": CalibrationRecord(batches=3, first_batch_sha256="00ff"),
    }
    return Manifest(**{**fields, **changes})


def through_json(written: Manifest) -> Manifest:
    return read_manifest(json.loads(json.dumps(write_manifest(written))))


@pytest.mark.parametrize("config", CONFIGS, ids=["default", "everything"])
def test_a_configuration_comes_back(config: QuantizationConfig):
    assert through_json(manifest(config=config)).config == config


def test_the_manifest_of_a_real_run_comes_back(result: QuantizationResult):
    written = result.model.mono_quant_manifest
    assert through_json(written) == written
    assert set(written.layers) == {"conv", "up", "down"}
    assert written.rewrites == result.plan.rewrites != ()


def test_a_manifest_without_calibration_comes_back():
    assert through_json(manifest(calibration=None)).calibration is None


def test_an_option_that_is_a_function_is_written_down_by_its_name():
    config = QuantizationConfig(source={"name": "dataloader", "batch_fn": mlp})
    assert through_json(manifest(config=config)).config.source.options == {"batch_fn": "small_models.mlp"}


Damage = Callable[[dict[str, Any]], object]


def at(*keys: object, value: object) -> Damage:
    def damage(data: Any) -> None:  # noqa: ANN401 - JSON
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = value

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        at("surprise", value=1),
        at("config", "surprise", value=1),
        at("config", "scheme", "surprise", value=1),
        at("config", "overrides", value={"a": {"surprise": 1}}),
        at("layers", "conv", "surprise", value=1),
        at("layers", "conv", "weights", "weight", "surprise", value=1),
        at("layers", "conv", "input", "surprise", value=1),
        at("rewrites", 0, "surprise", value=1),
        at("calibration", "surprise", value=1),
    ],
)
def test_an_unknown_key_is_refused_by_its_name(result: QuantizationResult, damage: Damage):
    data = copy.deepcopy(write_manifest(result.model.mono_quant_manifest))
    damage(data)
    with pytest.raises(ArtifactError, match="surprise"):
        read_manifest(data)


@pytest.mark.parametrize(
    "damage",
    [
        at("config", value=None),
        at("config", "num_samples", value=0),
        at("config", "on_failure", value="raise"),
        at("layers", value=[1, 2]),
        at("layers", "conv", value=3),
        at("layers", "conv", "weights", value=["weight"]),
        at("layers", "conv", "weights", "weight", value=None),
        at("layers", "conv", "weights", "weight", "dtype", value="int9"),
        at("layers", "conv", "weights", "weight", "granularity", value="per-galaxy"),
        at("layers", "conv", "weights", "weight", "granularity", value="per-token"),
        at("layers", "conv", "weights", "weight", "granularity", value="per-channel(3)"),
        at("layers", "conv", "weights", "weight", "symmetric", value="yes"),
        at("layers", "conv", "weights", "weight", "float_dtype", value=32),
        at("layers", "conv", "input", "is_dynamic", value="no"),
        at("layers", "conv", "weights", "weight", "shape", value="abc"),
        at("layers", "conv", "weights", "weight", "shape", value=[]),
        at("rewrites", value={"a": 1}),
        at("metrics", value={"sqnr_db": "high"}),
        at("calibration", "batches", value="many"),
        lambda data: data.pop("layers"),
        lambda data: data["layers"]["conv"].pop("weights"),
        lambda data: data["layers"]["conv"]["weights"]["weight"].pop("shape"),
    ],
)
def test_what_is_not_well_formed_is_refused(result: QuantizationResult, damage: Damage):
    data = copy.deepcopy(write_manifest(result.model.mono_quant_manifest))
    damage(data)
    with pytest.raises(ArtifactError, match="not well formed"):
        read_manifest(data)


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_another_version_is_refused_with_both_versions(version: object):
    data = write_manifest(manifest()) | {"format_version": version}
    with pytest.raises(ArtifactError, match="this mono_quant reads version 1"):
        read_manifest(data)


def test_the_manifest_is_json_that_every_reader_takes_even_when_nothing_was_lost():
    model = nn.Linear(FEATURES, FEATURES)
    nn.init.zeros_(model.weight)
    found = quantize(nn.Sequential(model), rows())
    assert found.info.sqnr_db == float("inf")
    json.dumps(write_manifest(found.model.mono_quant_manifest), allow_nan=False)
