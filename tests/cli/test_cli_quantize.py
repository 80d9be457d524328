"""``monoquant quantize``, ``plan``, ``inspect``, ``plugins`` and ``demo``."""

import re
from pathlib import Path

import pytest
import torch
from cli_models import images, mlp, net, rows
from command_line import Commands
from small_models import ConvNet, run

from mono_quant import Quantizer, load_model, save_model

NET = "--model cli_models:net"
MLP = "--model cli_models:mlp"


def test_a_model_is_quantized_as_python_does_it(tmp_path: Path, monoquant: Commands):
    by_command, by_python = tmp_path / "command.safetensors", tmp_path / "python.safetensors"
    ran = monoquant(f"quantize {NET} --data cli_models:images --json --output", by_command)
    result = Quantizer().quantize(net(), images())
    result.save(by_python)
    assert by_command.read_bytes() == by_python.read_bytes()
    assert ran.json()["output"] == str(by_command)
    assert ran.json()["info"]["selected_layers"] == list(result.info.selected_layers)
    assert ran.json()["validation"]["weight_sqnr_db"] == result.validation.weight_sqnr_db
    loaded = Quantizer().load(by_command, ConvNet)
    assert torch.equal(run(loaded, images()[0]), run(result.model, images()[0]))


def test_a_scheme_that_needs_no_data_gets_none(tmp_path: Path, monoquant: Commands):
    path = tmp_path / "dynamic.safetensors"
    ran = monoquant(f"quantize {MLP} --scheme int8-dynamic --json --output", path)
    assert ran.json()["info"]["calibration_samples_used"] == 0
    assert load_model(path)["0.weight"].dtype == torch.int8


def test_a_scheme_that_needs_data_says_so_when_there_is_none(tmp_path: Path, monoquant: Commands):
    ran = monoquant(f"quantize {MLP} --output", tmp_path / "static.safetensors")
    assert (ran.code, ran.out) == (2, "")
    assert "needs calibration_data" in ran.err
    assert "on the command line it is --data" in ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_weights_are_loaded_into_the_model(tmp_path: Path, monoquant: Commands, suffix: str):
    trained = mlp()
    torch.nn.init.constant_(trained[0].bias, 3.5)
    save_model(trained, tmp_path / f"weights.{suffix}")
    made = tmp_path / "made.safetensors"
    weights = tmp_path / f"weights.{suffix}"
    ran = monoquant(f"quantize --quiet {MLP} --data cli_models:rows --weights", weights, "--output", made)
    assert ran.code == 0
    assert torch.equal(load_model(made)["0.bias"], torch.full((16,), 3.5))


def test_weights_without_a_model_are_quantized_by_their_names_and_shapes(tmp_path: Path, monoquant: Commands):
    save_model(mlp(), tmp_path / "weights.safetensors")
    made = tmp_path / "made.safetensors"
    command = f"--scheme int8-weight-only --exclude 2 --json --weights {tmp_path / 'weights.safetensors'}"
    plan = monoquant(f"plan {command}").json()
    shown = monoquant(f"quantize {command} --output", made).json()
    assert shown["info"]["selected_layers"] == ["0"]
    assert "excluded by '2'" in shown["info"]["skipped_layers"].values()
    assert {entry["name"]: "scheme" in entry["decision"] for entry in plan["entries"]}["0"]
    assert shown["layer_sqnr_db"]["0"] > 30
    assert load_model(made)["0.weight"].dtype == torch.int8
    assert monoquant(f"validate {MLP} --quiet", made).code == 0


def test_data_without_a_model_is_refused(tmp_path: Path, monoquant: Commands):
    save_model(mlp(), tmp_path / "weights.pt")
    ran = monoquant("quantize --data cli_models:rows --output made.pt --weights", tmp_path / "weights.pt")
    assert (ran.code, ran.out) == (2, "")
    assert "--model" in ran.err


def test_a_file_of_one_tensor_is_cut_into_batches(tmp_path: Path, monoquant: Commands):
    torch.save(torch.cat(rows()), tmp_path / "rows.pt")
    command = f"quantize {MLP} --json --batch-size 5 --data {tmp_path / 'rows.pt'} --output {tmp_path / 'made.pt'}"
    assert monoquant(command).json()["info"]["calibration_samples_used"] == 4


def test_of_a_file_of_several_tensors_each_is_a_batch(tmp_path: Path, monoquant: Commands):
    torch.save(rows(), tmp_path / "rows.pt")
    command = f"quantize {MLP} --json --data {tmp_path / 'rows.pt'} --output {tmp_path / 'made.pt'}"
    assert monoquant(command).json()["info"]["calibration_samples_used"] == 3


def test_the_report_ends_with_the_file_that_was_written(tmp_path: Path, monoquant: Commands):
    ran = monoquant(f"quantize {MLP} --data cli_models:rows --output", tmp_path / "made.safetensors")
    assert ran.out.splitlines()[-1].split() == ["written", str(tmp_path / "made.safetensors")]
    assert ran.out.startswith("quantized  2 layers")


def test_the_plan_is_that_of_python(monoquant: Commands):
    assert monoquant(f"plan {NET} --exclude head").out == f"{Quantizer(exclude='head').plan(net())}\n"


def test_inspecting_shows_tensors_and_makers(saved: Path, monoquant: Commands):
    shown = monoquant("inspect --json", saved).json()
    assert shown["tensors"]["conv.weight"] == "int8[6, 3, 3, 3]"
    assert shown["manifest"]["config"]["num_samples"] == 2
    text = monoquant("inspect", saved).out
    assert "conv.weight  int8[6, 3, 3, 3]" in text
    assert "2 layers quantized" in text


def test_inspecting_a_float_file_says_that_it_is_one(tmp_path: Path, monoquant: Commands):
    save_model(net(), tmp_path / "weights.pt")
    assert "not a quantized model of mono_quant" in monoquant("inspect", tmp_path / "weights.pt").out


def test_the_plugins_are_listed_with_what_they_give(monoquant: Commands):
    rows_ = {row["name"]: row for row in monoquant("plugins --json").json()}
    assert rows_["minmax"]["components"] == {"observer": ["minmax"]}
    assert rows_["minmax"]["status"] == "active"
    assert len(monoquant("plugins").out.splitlines()) == len(rows_)


def test_the_demo_writes_where_it_is_told(tmp_path: Path, monoquant: Commands):
    figures = monoquant("demo --json --output", tmp_path / "digits.safetensors").json()
    assert figures["int8_bytes"] == (tmp_path / "digits.safetensors").stat().st_size
    assert figures["load_test_passed"] is True


def test_the_demo_says_which_file_is_how_much_larger(tmp_path: Path, monoquant: Commands):
    path = tmp_path / "digits.safetensors"
    last = monoquant("demo --output", path).out.splitlines()[-1]
    before = int(re.search("the float file has ([0-9,]+), ", last)[1].replace(",", ""))
    assert last.endswith(f"has {before:,}, {before / path.stat().st_size:.2f} times as many")
