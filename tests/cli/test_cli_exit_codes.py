"""Exit codes: each kind of failure has its own, one message, and leaves no new file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cli_models import mlp
from command_line import HERE, Commands, in_a_process

from mono_quant import save_model

MLP = "--model cli_models:mlp"
ROWS = "--data cli_models:rows"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with files that are no models, and one that is another model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.safetensors").write_text("not tensors")
    (tmp_path / "text.pt").write_text("not tensors")
    (tmp_path / "text.npy").write_text("not tensors")
    save_model(mlp()[0], tmp_path / "other.safetensors")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("quantize", 2, "--output"),
        ("validate", 2, "--model"),
        ("quantize --model cli_models:mlp", 2, "--output"),
        ("quantize --output made.pt", 2, "give --model"),
        ("plan", 2, "give --model"),
        ("plan --weights other.safetensors", 2, "nothing of other.safetensors"),
        ("quantize --weights other.safetensors --output made.pt", 2, "--scheme int8-weight-only"),
        ("plan --weights missing.safetensors --scheme int8-weight-only", 3, "missing.safetensors"),
        ("nonsense", 2, "nonsense"),
        ("", 2, "COMMAND"),
        (f"quantize {MLP} {ROWS} --output made.pt --batch-size 0", 2, "at least 1"),
        (f"quantize {MLP} {ROWS} --output made.pt --num-samples few", 2, "few"),
        (f"quantize {MLP} {ROWS} --output made.pt --num-samples 0", 2, "num_samples must be"),
        (f"quantize {MLP} {ROWS} --output made.pt --min-parameters -1", 2, "min_parameters must be"),
        (f"quantize {MLP} {ROWS} --output made.pt --on-failure maybe", 2, "maybe"),
        (f"quantize {MLP} {ROWS} --output made.pt --scheme none-such", 2, "none-such"),
        (f"quantize {MLP} {ROWS} --output made.pt --scheme {{name", 2, "not JSON"),
        (f"quantize {MLP} {ROWS} --output made.pt --exclude nothing.*", 2, "nothing.*"),
        (f"quantize {MLP} {ROWS} --output made.pt --exclude *", 2, "nothing would be quantized"),
        (f"quantize {MLP} {ROWS} --output made.pt --plugin no_such_plugin", 2, "no_such_plugin"),
        (f"quantize --model cli_models {ROWS} --output made.pt", 2, "MODULE:NAME"),
        (f"quantize --model cli_models:missing {ROWS} --output made.pt", 2, "missing"),
        (f"quantize --model cli_models:number {ROWS} --output made.pt", 2, "gives a value of type int"),
        (f"quantize --model cli_models:rows {ROWS} --output made.pt", 2, "not an nn.Module"),
        (f"quantize --model cli_models:net.missing {ROWS} --output made.pt", 2, "cli_models has no 'net.missing'"),
        (f"quantize --model cli_models.py:mlp {ROWS} --output made.pt", 2, "not as a file: cli_models:mlp?"),
        (f"quantize --model no_such.module:mlp {ROWS} --output made.pt", 2, "No module named 'no_such'"),
        (f"quantize {MLP} --data cli_models:missing --output made.pt", 2, "missing"),
        (f"quantize {MLP} --weights text.pt {ROWS} --output made.pt", 3, "text.pt"),
        (f"quantize {MLP} --weights missing.pt {ROWS} --output made.pt", 3, "missing.pt"),
        (f"quantize {MLP} --weights other.safetensors {ROWS} --output made.pt", 3, "does not fit"),
        (f"quantize {MLP} --data text.pt --output made.pt", 3, "text.pt"),
        (f"quantize {MLP} --data missing.pt --output made.pt", 3, "missing.pt"),
        (f"quantize {MLP} {ROWS} --output made.none", 3, ".none"),
        (f"quantize {MLP} {ROWS} --output missing/made.pt", 3, "its folder does not exist"),
        ("inspect text.safetensors", 3, "text.safetensors"),
        ("inspect text.npy", 3, ".npy"),
        ("recipe text.pt", 3, "text.pt"),
        ("compare other.safetensors text.safetensors", 3, "text.safetensors"),
        (f"validate other.safetensors {MLP}", 3, "manifest"),
        (f"bench missing.safetensors {MLP} {ROWS}", 3, "missing.safetensors"),
        ("convert other.safetensors", 2, "target"),
        ("convert other.safetensors made.pt --format none-such", 2, "none-such"),
        ("convert other.safetensors made.pt --format {name", 2, "not JSON"),
        ('convert other.safetensors made.pt --format {"name":"pytorch","level":9}', 2, "level"),
        ("convert other.safetensors other.safetensors", 2, "overwrite the input"),
        ("convert other.safetensors made.none", 3, ".none"),
        ("convert other.safetensors missing/made.pt", 3, "missing/made.pt cannot be written"),
        ("convert other.safetensors made.safetensors.index.json", 3, "max_shard_bytes"),
        ("convert text.safetensors made.pt", 3, "text.safetensors"),
        ("convert text.npy made.pt", 3, ".npy"),
        ("convert missing.pt made.safetensors", 3, "missing.pt"),
        (f"quantize {MLP} --data cli_models:wide_rows --output made.pt", 4, "batch 0"),
        (f"quantize {MLP} --data cli_models:empty --output made.pt", 4, "empty"),
        (f"quantize {MLP} --data cli_models:number --output made.pt", 4, "int"),
        (f'quantize {MLP} {ROWS} --output made.pt --validator {{"name":"sqnr","minimum":99}}', 5, "99"),
    ],
)
def test_each_kind_of_failure_has_its_code_and_its_message(
    monoquant: Commands, files: Path, command: str, code: int, words: str
):
    before = sorted(files.iterdir())
    ran = monoquant(command)
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err
    assert "Traceback" not in ran.err
    assert "monoquant" in ran.err
    assert sorted(files.iterdir()) == before


def test_an_error_is_printed_with_quiet_too(monoquant: Commands):
    ran = monoquant(f"quantize {MLP} --quiet --output made.none")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("monoquant: made.none")


def test_a_failed_run_leaves_the_old_file(tmp_path: Path, monoquant: Commands):
    (tmp_path / "made.pt").write_text("old")
    ran = monoquant(f"quantize {MLP} --data cli_models:wide_rows --output", tmp_path / "made.pt")
    assert ran.code == 4
    assert (tmp_path / "made.pt").read_text() == "old"


@pytest.mark.parametrize("by", ["name", "symbolic link", "another name of the folder"])
@pytest.mark.parametrize(
    "command",
    [
        f"quantize {MLP} {ROWS} --weights",
        f"quantize {MLP} --data",
        "quantize --scheme int8-weight-only --weights",
        "dequantize",
    ],
)
def test_an_input_is_not_overwritten(monoquant: Commands, tmp_path: Path, command: str, by: str):
    path = tmp_path / "weights.safetensors"
    save_model(mlp(), path)
    if command == "dequantize":
        (tmp_path / "float.safetensors").write_bytes(path.read_bytes())
        made = "quantize --quiet --scheme int8-weight-only --output"
        assert monoquant(made, path, "--weights", tmp_path / "float.safetensors").code == 0
    output = path
    if by == "symbolic link":
        output = tmp_path / "link.safetensors"
        output.symlink_to(path)
    elif by == "another name of the folder":
        output = tmp_path / ".." / tmp_path.name / path.name
    before = path.read_bytes()
    ran = monoquant(command, path, "--output", output)
    assert (ran.code, ran.out) == (2, "")
    assert f"would overwrite the input {path}" in ran.err
    assert path.read_bytes() == before
    assert output.is_symlink() == (by == "symbolic link")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"a": torch.zeros(2), "epoch": 3}, "its entry 'epoch' is of type int"),
        ([torch.zeros(2), [1, 2]], "its entry 1 is of type list"),
        (3, "holds a value of type int"),
        ({}, "holds no tensors"),
    ],
    ids=repr,
)
def test_what_is_no_tensor_in_a_file_of_data_is_named(monoquant: Commands, tmp_path: Path, content: object, said: str):
    torch.save(content, tmp_path / "data.pt")
    ran = monoquant(f"quantize {MLP} --output {tmp_path / 'made.pt'} --data", tmp_path / "data.pt")
    assert (ran.code, ran.out) == (3, "")
    assert said in ran.err
    assert "data is a tensor, a list of tensors or a mapping of names to tensors" in ran.err


def test_a_warning_is_one_line_without_a_place_in_the_code(tmp_path: Path):
    command = f'quantize {MLP} {ROWS} --on-failure warn --validator {{"name":"sqnr","minimum":99}} --output'
    ran = in_a_process([*command.split(), tmp_path / "made.pt"])
    assert ran.code == 0
    assert [line for line in ran.err.splitlines() if line.startswith("monoquant: warning: validation failed")]
    assert ".py:" not in ran.err
    quiet = in_a_process([*command.split(), tmp_path / "made.pt", "--quiet"])
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


def test_a_bug_elsewhere_is_code_1_with_the_whole_traceback():
    ran = in_a_process(["plan", "--model", "cli_models:BrokenAttributes"])
    assert (ran.code, ran.out) == (1, "")
    assert "Traceback (most recent call last)" in ran.err
    assert "mono_quant" in ran.err


OWN = {
    "imports_nothing.py": "import no_such_dependency\n",
    "half_written.py": "def build(:\n    pass\n",
    "fails_at_once.py": "settings = {}\nname = settings['name']\n",
}
"""Modules of a user's, which cannot be imported."""


@pytest.mark.parametrize(
    ("model", "frame", "said"),
    [
        ("imports_nothing:build", "imports_nothing.py", "importing imports_nothing:build raised ModuleNotFound"),
        ("half_written:build", "half_written.py", "importing half_written:build raised SyntaxError: "),
        ("fails_at_once:build", "fails_at_once.py", "importing fails_at_once:build raised KeyError: 'name'"),
        ("cli_models:failing", "in failing", "calling cli_models:failing without arguments raised RuntimeError: no"),
        ("cli_models:mlp --data cli_models:failing_rows", "in failing_rows", "calling cli_models:failing_rows without"),
        ("cli_models:mlp --data cli_models:rows_that_end_badly", "in rows_that_end_badly", "drawing a batch of the"),
        ("cli_models:mlp --data cli_models:loader", "in __getitem__", "drawing a batch of the data raised OSError: no"),
        (f"cli_models:FailingForward {ROWS}", "in forward", "calibration batch 0 failed in FailingForward.forward("),
    ],
)
def test_what_the_users_own_code_raises_is_shown_with_its_frames_and_what_was_being_done(
    monoquant: Commands, files: Path, model: str, frame: str, said: str
):
    for name, text in OWN.items():
        (files / name).write_text(text)
    ran = monoquant(f"quantize --model {model} --no-progress --output made.pt")
    assert (ran.code, ran.out) == (4, "")
    traceback, _, message = ran.err.rpartition("monoquant: ")
    assert message.startswith(said)
    assert message.count("\n") == 1
    assert traceback.startswith("Traceback (your own code in it):\n")
    assert frame in traceback
    assert not [line for line in traceback.splitlines() if "/torch/" in line or "/mono_quant/" in line]
    assert not (files / "made.pt").exists()


def test_a_class_that_needs_arguments_has_no_frames_to_show(monoquant: Commands):
    ran = monoquant("plan --model torch.nn:Linear")
    assert (ran.code, ran.out) == (4, "")
    assert ran.err.startswith("monoquant: calling torch.nn:Linear without arguments raised TypeError: ")


def test_a_reader_that_goes_away_is_no_error():
    command = [sys.executable, "-m", "mono_quant", "plugins"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=HERE, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as ran:  # noqa: S603
        ran.stdout.close()
        assert ran.stderr.read() == b""
        assert ran.wait() == 0


def test_the_current_folder_is_searched_for_models(tmp_path: Path):
    (tmp_path / "found_here.py").write_text("import torch\nbuild = torch.nn.Linear(3, 2)\n")
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "mono_quant", "plan", "--model", "found_here:build"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "1 of 1 layers quantized" in ran.stdout
