"""A report as a file: what is written is read again, and what is no report, or a damaged one, is told apart."""

import json
import math
from pathlib import Path

import attrs
import pytest
from small_models import mlp, quantize, rows

from mono_quant import LayerReport, QuantizationResult, save_model
from mono_quant.errors import ArtifactError
from mono_quant.report_file import read_report


@pytest.fixture
def result() -> QuantizationResult:
    return quantize(mlp(), rows(), observer={"name": "percentile", "percentile": 99.0})


def changed(result: QuantizationResult, **figures: object) -> QuantizationResult:
    return attrs.evolve(result, layers=tuple(attrs.evolve(layer, **figures) for layer in result.layers))


def test_the_file_is_json_with_all_fields(result: QuantizationResult, tmp_path: Path):
    result.save_report(tmp_path / "a.json")
    data = json.loads((tmp_path / "a.json").read_text())
    assert set(data) == {"kind", "info", "validation", "target", "layers"}
    assert [set(layer) for layer in data["layers"]] == [{field.name for field in attrs.fields(LayerReport)}] * 2
    assert data["info"]["sqnr_db"] == result.info.sqnr_db
    assert data["layers"][0]["observer"] == {"name": "percentile", "percentile": 99.0}


@pytest.mark.parametrize("value", [None, 31.25, 0.1 + 0.2, math.inf, -math.inf])
def test_figures_are_read_as_they_were_written(result: QuantizationResult, tmp_path: Path, value: float | None):
    changed(result, output_sqnr_db=value).save_report(tmp_path / "a.json")
    report = read_report(tmp_path / "a.json")
    assert report is not None
    assert [figures["output_sqnr_db"] for figures in report.figures.values()] == [value, value]
    assert report.totals["sqnr_db"] == result.info.sqnr_db
    assert report.totals["weight_sqnr_db"] == result.validation.weight_sqnr_db
    assert report.choices["0"]["observer"] == '{"name": "percentile", "percentile": 99.0}'
    assert report.choices["0"]["kernels"] == "+".join(result.layers[0].kernels)


def test_a_nan_is_read_as_one(result: QuantizationResult, tmp_path: Path):
    changed(result, output_sqnr_db=math.nan).save_report(tmp_path / "a.json")
    report = read_report(tmp_path / "a.json")
    assert report is not None
    assert math.isnan(report.figures["0"]["output_sqnr_db"])


def test_keys_that_are_not_known_are_passed_over(result: QuantizationResult, tmp_path: Path):
    result.save_report(tmp_path / "a.json")
    data = json.loads((tmp_path / "a.json").read_text()) | {"new": 1}
    data["layers"][0] |= {"newer": [1]}
    del data["layers"][1]["shift_percent"]
    (tmp_path / "b.json").write_text(json.dumps(data))
    one, other = (read_report(tmp_path / name) for name in ("a.json", "b.json"))
    assert one is not None
    assert other is not None
    assert one.figures["0"] == other.figures["0"]
    assert other.figures["1" if "1" in other.figures else "2"]["shift_percent"] is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.update(kind="mono_quant report, version 9"), "this version of mono_quant reads"),
        (lambda data: data.pop("layers"), "damaged: KeyError: 'layers'"),
        (lambda data: data.update(layers={}), "'layers' is no list"),
        (lambda data: data["layers"].append(3), "a layer is no JSON object"),
        (lambda data: data["layers"].append(data["layers"][0]), "a layer is named '0' twice"),
        (lambda data: data["layers"][0].update(name=None), "a layer is named None"),
        (lambda data: data["layers"][0].update(output_sqnr_db="high"), "output_sqnr_db of '0' is 'high', no number"),
        (lambda data: data["layers"][0].update(float_bytes=True), "float_bytes of '0' is True, no number"),
        (lambda data: data["info"].update(sqnr_db=[]), "sqnr_db is \\[\\], no number"),
        (lambda data: data.update(info=3), "info is no JSON object"),
        (lambda data: data["info"].update(sqnr_db=10**400), "damaged: OverflowError"),
    ],
)
def test_a_damaged_report_is_refused_by_name(result: QuantizationResult, tmp_path: Path, change: object, words: str):
    result.save_report(tmp_path / "a.json")
    data = json.loads((tmp_path / "a.json").read_text())
    change(data)
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(ArtifactError, match=words) as error:
        read_report(tmp_path / "a.json")
    assert "a.json" in str(error.value)


def test_half_of_a_report_is_refused(result: QuantizationResult, tmp_path: Path):
    result.save_report(tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text()
    (tmp_path / "a.json").write_text(text[: len(text) // 2])
    with pytest.raises(ArtifactError, match="is not JSON"):
        read_report(tmp_path / "a.json")


@pytest.mark.parametrize("content", [b"", b"[1]", b"{}", b'{"a": ', b'{"kind": 3}', b"{\xff}", b"\x00{", b"PK\x03\x04"])
def test_other_files_are_no_reports(tmp_path: Path, content: bytes):
    (tmp_path / "a.json").write_bytes(content)
    assert read_report(tmp_path / "a.json") is None


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_models_are_no_reports(tmp_path: Path, suffix: str):
    save_model(mlp(), tmp_path / f"a{suffix}")
    assert read_report(tmp_path / f"a{suffix}") is None


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(ArtifactError, match=r"none\.json cannot be read"):
        read_report(tmp_path / "none.json")


def test_a_report_that_cannot_be_written_is_an_error_that_names_it(result: QuantizationResult, tmp_path: Path):
    with pytest.raises(ArtifactError, match="cannot be written"):
        result.save_report(tmp_path / "none" / "a.json")
