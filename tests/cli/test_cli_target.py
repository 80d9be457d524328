"""Targets and sensitivity on the command line."""

from pathlib import Path

import pytest
from command_line import Commands

from mono_quant.io.safetensors_format import SafetensorsFormat

NET = "--model cli_models:net --data cli_models:images"


def test_a_target_that_is_met_is_written_with_its_path(tmp_path: Path, monoquant: Commands):
    made = tmp_path / "made.safetensors"
    ran = monoquant(f"quantize {NET} --min-sqnr 53 --output", made)
    assert ran.code == 0
    assert ran.out.startswith("target     output SQNR >= 53 dB\n")
    overrides = SafetensorsFormat().load(made).manifest["config"]["overrides"]
    assert overrides


def test_a_target_that_is_not_met_exits_5_and_writes_nothing(tmp_path: Path, monoquant: Commands):
    ran = monoquant(f"quantize {NET} --min-sqnr 500 --output", tmp_path / "made.safetensors")
    assert ran.code == 5
    assert "the target was not met" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_metric_is_imported_and_measured(tmp_path: Path, monoquant: Commands):
    ran = monoquant(
        f"quantize --json {NET} --max-drop 0.5 --metric cli_models:first_output --output", tmp_path / "made.pt"
    )
    assert ran.code == 0
    assert ran.json()["target"]["is_met"] is True
    assert ran.json()["target"]["target"].startswith("first_output >= ")


def test_a_size_may_have_a_unit_or_not(tmp_path: Path, monoquant: Commands):
    for size in ("1MB", "1000000"):
        assert monoquant(f"quantize {NET} --max-size {size} --output", tmp_path / "made.pt").code == 0


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ("--min-sqnr 20 --max-size 1MB", 2, "--min-sqnr and --max-size"),
        ("--max-drop 0.1", 2, "--metric go together"),
        ("--metric cli_models:first_output", 2, "--max-drop"),
        ("--max-drop 0.1 --metric cli_models:FEATURES", 2, "not a function"),
        ("--max-drop 0.1 --metric cli_models:failing_metric", 4, "the metric cli_models:failing_metric raised"),
        ("--max-size much", 2, "25MB"),
    ],
)
def test_a_target_that_cannot_be_meant_is_refused(
    tmp_path: Path, monoquant: Commands, options: str, code: int, said: str
):
    ran = monoquant(f"quantize {NET} {options} --output", tmp_path / "made.pt")
    assert ran.code == code
    assert said in ran.err
    assert list(tmp_path.iterdir()) == []


def test_weights_without_a_model_have_no_target(tmp_path: Path, monoquant: Commands):
    made = tmp_path / "made.safetensors"
    assert monoquant(f"quantize --quiet {NET} --output", made).code == 0
    ran = monoquant(f"quantize --weights {made} --scheme int8-weight-only --min-sqnr 9 --output", tmp_path / "b.pt")
    assert ran.code == 2
    assert "--model" in ran.err


def test_sensitivity_is_a_table_of_all_layers(monoquant: Commands):
    ran = monoquant(f"sensitivity {NET} --batches 2")
    assert ran.code == 0
    assert ran.out.splitlines()[0].split()[:3] == ["layer", "type", "output"]
    assert len(ran.out.splitlines()) == 3


def test_sensitivity_ranks_by_a_metric(monoquant: Commands):
    ran = monoquant(f"sensitivity {NET} --metric cli_models:first_output")
    assert "metric" in ran.out.splitlines()[0]
