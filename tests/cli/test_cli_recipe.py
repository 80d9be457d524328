"""``--recipe`` and ``monoquant recipe``: a run is written down, changed and repeated."""

import io
import json
from pathlib import Path

import pytest
from cli_models import net
from command_line import Commands, in_a_process

from mono_quant import QuantizationConfig, save_model

NET = "--model cli_models:net"
DATA = "--data cli_models:images"

RECIPE = QuantizationConfig(
    kernel="reference",
    num_samples=2,
    validators=["sqnr", "weight-range", "load-run"],
    overrides={"head": {"scheme": "int8-dynamic"}},
)
"""What `saved` was made by."""


def test_the_recipe_of_a_file_repeats_the_run_to_the_same_bytes(tmp_path: Path, saved: Path, monoquant: Commands):
    recipe, again = tmp_path / "again.toml", tmp_path / "again.safetensors"
    recipe.write_text(monoquant("recipe", saved).out)
    assert monoquant(f"quantize {NET} {DATA} --recipe", recipe, "--output", again).code == 0
    assert again.read_bytes() == saved.read_bytes()


def test_a_pipe_of_two_processes_repeats_the_run_to_the_same_bytes(tmp_path: Path, saved: Path):
    recipe = in_a_process(["recipe", saved])
    again = tmp_path / "again.safetensors"
    arguments = [*f"quantize --quiet {NET} {DATA} --recipe - --output".split(), again]
    assert in_a_process(arguments, stdin=recipe.out).code == 0
    assert again.read_bytes() == saved.read_bytes()


def test_another_recipe_gives_other_bytes(tmp_path: Path, saved: Path, monoquant: Commands):
    again = tmp_path / "again.safetensors"
    made_by = tmp_path / "made-by.toml"
    assert monoquant(f"quantize {NET} {DATA} --num-samples 1 --recipe", made_by, "--output", again).code == 0
    assert again.read_bytes() != saved.read_bytes()


def test_the_recipe_is_printed_as_toml_or_as_json(saved: Path, monoquant: Commands):
    assert QuantizationConfig.from_text(monoquant("recipe", saved).out, "toml") == RECIPE
    printed = monoquant("recipe --json", saved)
    assert QuantizationConfig.from_text(printed.out, "json") == RECIPE
    assert printed.json()["overrides"] == {"head": {"scheme": "int8-dynamic"}}


@pytest.mark.parametrize("name", ["recipe.toml", "recipe.json"])
def test_the_recipe_is_written_to_a_file_and_then_nothing_is_printed(
    tmp_path: Path, saved: Path, monoquant: Commands, name: str
):
    ran = monoquant("recipe", saved, "-o", tmp_path / name)
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert QuantizationConfig.from_file(tmp_path / name) == RECIPE


def test_a_dash_as_output_is_standard_output(saved: Path, monoquant: Commands):
    assert monoquant("recipe -o -", saved).out == monoquant("recipe", saved).out != ""


def test_json_asked_for_in_a_toml_file_is_refused(tmp_path: Path, saved: Path, monoquant: Commands):
    ran = monoquant("recipe --json", saved, "-o", tmp_path / "recipe.toml")
    assert (ran.code, ran.out) == (2, "")
    assert not (tmp_path / "recipe.toml").exists()
    assert monoquant("recipe --json", saved, "-o", tmp_path / "recipe.json").code == 0


def test_a_file_without_a_manifest_has_no_recipe(tmp_path: Path, monoquant: Commands):
    save_model(net(), tmp_path / "weights.pt")
    ran = monoquant("recipe", tmp_path / "weights.pt")
    assert (ran.code, ran.out) == (3, "")
    assert "is not a quantized model" in ran.err


@pytest.mark.parametrize("text", ['exclude = ["head"]', '{"exclude": ["head"]}'], ids=["toml", "json"])
def test_a_dash_reads_either_kind_of_recipe_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, monoquant: Commands, text: str
):
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    plan = monoquant(f"plan --json --recipe - {NET}").json()
    assert {entry["name"]: "reason" in entry["decision"] for entry in plan["entries"]}["head"]


def test_options_win_over_the_recipe_and_lists_replace_its_lists(tmp_path: Path, monoquant: Commands):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('scheme = "int8-dynamic"\nexclude = ["conv"]\nnum_samples = 0x2\n')

    def kept(*options: str) -> dict[str, str]:
        plan = monoquant(f"plan --json {NET} --recipe", recipe, *options).json()
        return {e["name"]: e["decision"].get("reason", e["decision"].get("scheme")) for e in plan["entries"]}

    assert kept()["conv"] == "excluded by 'conv'"
    assert kept()["head"] == "int8-dynamic"
    assert kept("--exclude", "head")["conv"] != "excluded by 'conv'"
    assert kept("--exclude", "head")["head"] == "excluded by 'head'"
    assert kept("--scheme", "int8-static")["head"] == "int8-static"


@pytest.mark.parametrize(
    ("option", "value", "field"),
    [
        ("--scheme", '{"name": "int8-static", "saturation": "full-range"}', "scheme"),
        ("--observer", "minmax", "observer"),
        ("--validator", '{"name": "sqnr", "minimum": 3.0}', "validators"),
        ("--algorithm", "smoothquant", "algorithms"),
        ("--kernel", "reference", "kernel"),
        ("--include", "*", "include"),
        ("--exclude", "head", "exclude"),
        ("--min-parameters", "7", "min_parameters"),
        ("--num-samples", "1", "num_samples"),
        ("--on-failure", "ignore", "on_failure"),
    ],
)
def test_each_option_is_written_into_the_recipe_of_the_file(
    tmp_path: Path, monoquant: Commands, option: str, value: str, field: str
):
    made = tmp_path / "made.safetensors"
    arguments = f"quantize --quiet {NET} {DATA} --output"
    assert monoquant(arguments, made, option, value).code == 0
    given = json.loads(value) if value.startswith("{") or value.isdigit() else value
    expected = QuantizationConfig(**{field: given})
    assert QuantizationConfig.from_text(monoquant("recipe", made).out) == expected


def test_a_mistake_in_a_recipe_names_the_file_and_the_key(tmp_path: Path, monoquant: Commands):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("num_sample = 3")
    ran = monoquant(f"plan {NET} --recipe", recipe)
    assert (ran.code, ran.out) == (2, "")
    assert f"{recipe}: unknown key 'num_sample'" in ran.err
    assert "did you mean 'num_samples'?" in ran.err


def test_a_mistake_on_standard_input_says_so(monkeypatch: pytest.MonkeyPatch, monoquant: Commands):
    monkeypatch.setattr("sys.stdin", io.StringIO("= 3"))
    ran = monoquant(f"plan {NET} --recipe -")
    assert ran.code == 2
    assert "standard input is not TOML" in ran.err


def test_bytes_that_are_no_text_on_standard_input_are_refused(monkeypatch: pytest.MonkeyPatch, monoquant: Commands):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), encoding="utf-8"))
    ran = monoquant(f"plan {NET} --recipe -")
    assert ran.code == 2
    assert "standard input is not text" in ran.err


def test_a_recipe_that_is_not_there_is_a_file_that_cannot_be_read(tmp_path: Path, monoquant: Commands):
    assert monoquant(f"plan {NET} --recipe", tmp_path / "missing.toml").code == 3
