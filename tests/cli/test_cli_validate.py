"""``monoquant validate``: a saved file is checked again, with the checks of its own recipe or others."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cli_models import images, net
from command_line import Commands

from mono_quant import Quantizer
from mono_quant.io.files import write
from mono_quant.io.safetensors_format import SafetensorsFormat
from mono_quant.plugin_api.artifact import Artifact

NET = "--model cli_models:net"
DATA = "--data cli_models:images"


def findings(shown: dict[str, object]) -> dict[str, dict[str, object]]:
    return {finding["name"]: finding for finding in shown["validation"]["findings"]}


def test_the_figures_are_those_of_the_run_also_for_folded_layers(tmp_path: Path, monoquant: Commands):
    path = tmp_path / "made.safetensors"
    result = Quantizer(kernel="reference").quantize(net(), images())
    result.save(path)
    shown = monoquant(f"validate --json {NET} {DATA}", path).json()
    assert shown["file"] == str(path)
    assert shown["validation"]["weight_sqnr_db"] == result.validation.weight_sqnr_db
    assert shown["validation"]["layer_sqnr_db"] == dict(result.validation.layer_sqnr_db)
    # the output by other kernels: right to float rounding, which this figure does not feel
    assert shown["validation"]["sqnr_db"] == pytest.approx(result.validation.sqnr_db, abs=0.01)
    assert [finding["status"] for finding in findings(shown).values()] == ["passed"] * 7


def test_the_checks_are_those_of_the_recipe_in_the_file(saved: Path, monoquant: Commands):
    shown = monoquant(f"validate --json {NET} {DATA}", saved).json()
    assert list(findings(shown)) == ["weight-sqnr", "output-sqnr", "weight-range", "load-run"]


def test_other_checks_take_their_place(saved: Path, monoquant: Commands):
    shown = monoquant(f"validate --json {NET} --validator size --validator weight-range", saved).json()
    assert list(findings(shown)) == ["original-size", "quantized-size", "compression-ratio", "weight-range"]


def test_without_data_outputs_are_not_compared(saved: Path, monoquant: Commands):
    shown = findings(monoquant(f"validate --json {NET}", saved).json())
    assert shown["output-sqnr"]["status"] == "skipped"
    assert "outputs not compared" in shown["load-run"]["message"]


def test_a_failed_check_is_printed_and_is_code_5(saved: Path, monoquant: Commands):
    ran = monoquant(f'validate {NET} {DATA} --validator {{"name":"sqnr","minimum":99}}', saved)
    assert ran.code == 5
    assert [line.split()[:2] for line in ran.out.splitlines()] == [["weight-sqnr", "passed"], ["output-sqnr", "failed"]]
    assert ran.err.startswith("monoquant: validation failed: output-sqnr: output SQNR")


def test_with_quiet_the_exit_code_and_the_error_remain(saved: Path, monoquant: Commands):
    ran = monoquant(f'validate {NET} {DATA} --quiet --validator {{"name":"sqnr","minimum":99}}', saved)
    assert (ran.code, ran.out) == (5, "")
    assert "is below 99 dB" in ran.err


def written_into(saved: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    artifact = SafetensorsFormat().load(saved)
    tensors = {name: tensor.clone() for name, tensor in artifact.tensors.items()}
    change(tensors)
    SafetensorsFormat().save(Artifact(tensors, artifact.manifest), saved)


def test_a_file_whose_weights_were_written_into_fails(saved: Path, monoquant: Commands):
    command = f'validate {NET} {DATA} --validator {{"name":"sqnr","minimum":20}}'
    assert monoquant(command, saved).code == 0
    written_into(saved, lambda tensors: tensors["head.weight"].neg_())
    assert monoquant(command, saved).code == 5


def test_a_damaged_file_is_refused(saved: Path, monoquant: Commands):
    written_into(saved, lambda tensors: tensors["conv.weight_scale"].neg_())
    ran = monoquant(f"validate {NET} {DATA}", saved)
    assert (ran.code, ran.out) == (3, "")
    assert "conv.weight_scale" in ran.err


def test_the_wrong_weights_show_in_the_figures_and_fail_with_a_question(
    tmp_path: Path, saved: Path, monoquant: Commands
):
    torch.manual_seed(99)
    other = type(net())()
    write(SafetensorsFormat(), other, tmp_path / "other.safetensors")
    right = monoquant(f"validate --json {NET} {DATA}", saved).json()
    assert right["validation"]["weight_sqnr_db"] > 30
    assert "same-model" not in findings(right)
    for data in ("", DATA):
        ran = monoquant(f"validate --json {NET} {data} --weights {tmp_path / 'other.safetensors'}", saved)
        assert ran.code == 5
        assert json.loads(ran.out)["validation"]["weight_sqnr_db"] < 0
        assert "are these the weights that the file was made from? Give those, with --weights" in ran.err


def test_a_builder_without_the_trained_weights_is_asked_for_them(saved: Path, monoquant: Commands):
    ran = monoquant("validate --model cli_models:ConvNet", saved)
    assert ran.code == 5
    assert "same-model: weight-sqnr is -" in ran.err
    written_into(saved, lambda tensors: tensors["head.bias"].fill_(1e3))  # a wrong number that is in no weight
    ran = monoquant(f"validate {NET} {DATA}", saved)
    assert ran.code == 5
    assert "same-model: output-sqnr is -" in ran.err


def test_another_model_does_not_fit(saved: Path, monoquant: Commands):
    ran = monoquant("validate --model cli_models:mlp", saved)
    assert (ran.code, ran.out) == (3, "")
    assert "wrong model class?" in ran.err


def test_empty_data_is_refused(saved: Path, monoquant: Commands):
    ran = monoquant(f"validate {NET} --data cli_models:empty", saved)
    assert (ran.code, ran.out) == (4, "")
    assert "empty" in ran.err
