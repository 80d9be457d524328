"""What holds for every command: JSON, quiet, and a standard output that carries the result alone."""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from command_line import Commands

from mono_quant import save_model
from mono_quant.cli import parser

MLP = "--model cli_models:mlp"
NOISY = "--model cli_models:noisy --data cli_models:noisy_rows"


def command_names() -> list[str]:
    (commands,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return list(commands.choices)


def _folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    save_model({"fc.weight": torch.eye(4)}, tmp_path / "folder" / "model.safetensors")
    return tmp_path / "folder"


@pytest.fixture
def arguments(tmp_path: Path, monoquant: Commands) -> dict[str, str]:
    """A valid call of each command; the model and the data print where they should not."""
    made = tmp_path / "made.safetensors"
    assert monoquant(f"quantize --quiet {NOISY} --output", made).code == 0
    return {
        "quantize": f"quantize {NOISY} --output {tmp_path / 'out.safetensors'}",
        "checkpoint": f"checkpoint {_folder(tmp_path)} {tmp_path / 'quantized'} --scheme int8-weight-only --workers 1",
        "plan": "plan --model cli_models:noisy",
        "sensitivity": f"sensitivity {NOISY}",
        "inspect": f"inspect {made}",
        "validate": f"validate {made} {NOISY}",
        "compare": f"compare {made} {made}",
        "convert": f"convert {made} {tmp_path / 'converted.pt'}",
        "dequantize": f"dequantize {made} -o {tmp_path / 'float.safetensors'}",
        "recipe": f"recipe {made}",
        "bench": f"bench {made} {NOISY}",
        "plugins": "plugins",
        "plugin": "plugin list",
        "demo": f"demo --output {tmp_path / 'digits.safetensors'}",
    }


def test_every_command_is_tried_here(arguments: dict[str, str]):
    assert list(arguments) == command_names()


@pytest.mark.parametrize("name", command_names())
def test_with_json_standard_output_is_one_json_value(arguments: dict[str, str], monoquant: Commands, name: str):
    ran = monoquant(f"{arguments[name]} --json")
    assert ran.json() is not None
    json.dumps(ran.json(), allow_nan=False)


@pytest.mark.parametrize("name", command_names())
def test_with_quiet_nothing_is_printed(arguments: dict[str, str], monoquant: Commands, name: str):
    ran = monoquant(f"{arguments[name]} --quiet")
    said_by_others = re.sub(r"loading the (model|data)\.\.\.\n", "", ran.err)
    assert (ran.code, ran.out, said_by_others) == (0, "", "")


@pytest.mark.parametrize("name", command_names())
def test_without_options_standard_output_is_text_of_the_command_alone(
    arguments: dict[str, str], monoquant: Commands, name: str
):
    ran = monoquant(arguments[name])
    assert ran.code == 0
    assert ran.out.strip()
    assert "loading" not in ran.out


@pytest.mark.parametrize("name", ["quantize", "plan", "validate", "bench"])
def test_what_models_and_data_print_goes_to_standard_error(arguments: dict[str, str], monoquant: Commands, name: str):
    ran = monoquant(arguments[name])
    assert "loading the model..." in ran.err


@pytest.mark.parametrize("name", command_names())
def test_json_and_quiet_exclude_each_other(arguments: dict[str, str], monoquant: Commands, name: str):
    ran = monoquant(f"{arguments[name]} --json --quiet")
    assert (ran.code, ran.out) == (2, "")


@pytest.mark.parametrize("name", command_names())
def test_every_command_has_help_with_its_own_sentence(monoquant: Commands, name: str):
    ran = monoquant(f"{name} --help")
    assert ran.code == 0
    assert f"monoquant {name}" in ran.out
    assert ran.err == ""


def every_parser(whole: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Those of commands, and of their own commands."""
    for action in whole._actions:
        for inner in action.choices.values() if isinstance(action, argparse._SubParsersAction) else ():
            yield inner
            yield from every_parser(inner)


@pytest.mark.parametrize("command", list(every_parser(parser())), ids=lambda command: command.prog)
def test_help_is_plain_text_and_explains_every_argument(command: argparse.ArgumentParser):
    assert "`" not in command.format_help()
    arguments = [action for action in command._actions if not isinstance(action, argparse._SubParsersAction)]
    assert [action.dest for action in arguments if not action.help] == []


def test_the_parser_is_new_at_each_call_so_that_tools_may_change_it():
    assert parser() is not parser()
    assert parser().prog == "monoquant"


def test_the_version_is_printed(monoquant: Commands):
    ran = monoquant("--version")
    assert ran.code == 0
    assert re.fullmatch(r"monoquant \d+\..*\n", ran.out)


@pytest.mark.parametrize(("option", "shows"), [("", ["calibrating"]), ("--no-progress", []), ("--quiet", [])])
def test_progress_bars_go_to_standard_error_unless_they_are_not_wanted(
    tmp_path: Path, monoquant: Commands, monkeypatch: pytest.MonkeyPatch, option: str, shows: list[str]
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    ran = monoquant(f"quantize {MLP} --data cli_models:many_rows {option} --output", tmp_path / "out.safetensors")
    assert ran.code == 0
    assert re.findall("calibrating", ran.err)[:1] == shows
    assert "calibrating" not in ran.out


def test_a_command_leaves_standard_output_as_it_was(monoquant: Commands):
    before = sys.stdout
    for command in ("plugins", "plan --model cli_models:number"):
        monoquant(command)
        assert sys.stdout is before
