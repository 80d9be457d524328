"""``monoquant quantize --report`` and ``--layers``, and two reports compared."""

import json
from pathlib import Path

import pytest
from cli_models import mlp
from command_line import Commands, Ran

from mono_quant import save_model

MODEL = "quantize --model cli_models:mlp --data cli_models:rows --output"


def quantize(monoquant: Commands, folder: Path, name: str, *options: str) -> Ran:
    return monoquant(MODEL, folder / f"{name}.safetensors", "--report", folder / f"{name}.json", *options)


@pytest.fixture
def two(tmp_path: Path, monoquant: Commands) -> tuple[Path, Path]:
    assert quantize(monoquant, tmp_path, "a", "--kernel", "reference").code == 0
    scheme = json.dumps({"name": "int4-weight-only", "group_size": 8})
    assert quantize(monoquant, tmp_path, "b", "--scheme", scheme, "--include", "2").code == 0
    return tmp_path / "a.json", tmp_path / "b.json"


def test_the_report_is_what_json_prints(tmp_path: Path, monoquant: Commands):
    printed = quantize(monoquant, tmp_path, "a", "--json").json()
    assert printed.pop("output") == str(tmp_path / "a.safetensors")
    assert 50 < printed.pop("peak_memory_mb") < 1e6
    assert json.loads((tmp_path / "a.json").read_text()) == printed


def test_for_people_the_memory_that_was_needed_stands_before_the_file(tmp_path: Path, monoquant: Commands):
    memory, written = quantize(monoquant, tmp_path, "a").out.splitlines()[-2:]
    assert memory.startswith("memory     ")
    assert memory.endswith(" MB at most, of this process")
    assert written == f"written    {tmp_path / 'a.safetensors'}"


def test_layers_prints_a_line_for_each(tmp_path: Path, monoquant: Commands):
    lines = monoquant(MODEL, tmp_path / "a.safetensors", "--layers").out.splitlines()
    table = lines[lines.index("") + 1 :]
    assert table[0].split()[:4] == ["layer", "type", "scheme", "observer"]
    assert [line.split()[:4] for line in table[1:]] == [
        [name, "Linear", "int8-static", "minmax"] for name in ("0", "2")
    ]
    assert "layer  " not in monoquant(MODEL, tmp_path / "a.safetensors").out


def test_what_changed_stands_beside_each_other(two: tuple[Path, Path], monoquant: Commands):
    first, second = (json.loads(path.read_text()) for path in two)
    shown = monoquant("compare --json", *two).json()
    assert shown["reports"] == [str(path) for path in two]
    totals, layers = shown["comparison"]["totals"], {layer["name"]: layer for layer in shown["comparison"]["layers"]}
    before, after = first["info"]["sqnr_db"], second["info"]["sqnr_db"]
    assert totals["sqnr_db"] == {"first": before, "second": after, "difference": after - before}
    assert set(totals) >= {"quantized_size_mb", "compression_ratio", "quantized_latency_ms", "weight_sqnr_db"}
    assert layers["0"]["only_in"] == "first"
    assert layers["2"]["only_in"] == ""
    assert layers["2"]["choices"]["scheme"] == ["int8-static", "int4-weight-only"]
    assert layers["2"]["choices"]["observer"] == ["minmax", "-"]
    figures = layers["2"]["figures"]["output_sqnr_db"]
    assert figures["difference"] == figures["second"] - figures["first"] < -5


def test_for_people_it_is_two_tables_and_a_verdict(two: tuple[Path, Path], monoquant: Commands):
    lines = monoquant("compare", *two).out.splitlines()
    assert lines[0].startswith("layer")
    assert lines[1].endswith("quantized in the first only")
    assert "scheme int8-static -> int4-weight-only" in lines[2]
    assert any(line.startswith("quantized size, MB") for line in lines)
    assert lines[-1].endswith("0 layers better by 0.1 dB or more, 1 worse, 0 as before, 1 cannot be compared")


def test_a_report_equals_itself(two: tuple[Path, Path], monoquant: Commands):
    comparison = monoquant("compare --json", two[0], two[0]).json()["comparison"]
    assert all(change["difference"] in (0, None) for change in comparison["totals"].values())
    assert not any(layer["choices"] or layer["only_in"] for layer in comparison["layers"])


def test_what_json_printed_can_be_compared_too(tmp_path: Path, two: tuple[Path, Path], monoquant: Commands):
    (tmp_path / "printed.json").write_text(monoquant(MODEL, tmp_path / "c.safetensors", "--json").out)
    assert monoquant("compare", two[0], tmp_path / "printed.json").code == 0


def test_a_report_beside_a_model_and_json_of_another_kind_are_refused(
    tmp_path: Path, two: tuple[Path, Path], monoquant: Commands
):
    save_model(mlp(), tmp_path / "model.pt")
    for pair in ((two[0], tmp_path / "model.pt"), (tmp_path / "model.pt", two[0])):
        ran = monoquant("compare", *pair)
        assert (ran.code, ran.out) == (3, "")
        assert f"{two[0]} is a report and {tmp_path / 'model.pt'} is not" in ran.err
    (tmp_path / "other.json").write_text('{"weights": 3}')
    ran = monoquant("compare", tmp_path / "other.json", tmp_path / "other.json")
    assert ran.code == 3
    assert "other.json" in ran.err
    assert "no report" in ran.err


@pytest.mark.parametrize("options", [["--report", "report.json"], ["--layers"]], ids=str)
def test_weights_without_a_model_have_no_report(tmp_path: Path, monoquant: Commands, options: list[str]):
    save_model(mlp(), tmp_path / "float.safetensors")
    command = ("quantize --scheme int8-weight-only --weights", tmp_path / "float.safetensors", "--output")
    ran = monoquant(*command, tmp_path / "int8.safetensors", *options)
    assert ran.code == 2
    assert "say which with --model" in ran.err
    assert not (tmp_path / "int8.safetensors").exists()


def test_a_report_in_place_of_the_output_or_in_no_folder_is_refused_before_the_work(
    tmp_path: Path, monoquant: Commands
):
    output = tmp_path / "a.safetensors"
    assert monoquant(MODEL, output, "--report", output).code == 2
    assert monoquant(MODEL, output, "--report", tmp_path / "none" / "a.json").code == 3
    assert monoquant(MODEL, output, "--report", tmp_path).code == 3
    assert not output.exists()


def test_a_report_does_not_take_the_place_of_the_output_by_another_path(tmp_path: Path, monoquant: Commands):
    (tmp_path / "models").mkdir()
    (tmp_path / "link").symlink_to("models", target_is_directory=True)
    output = tmp_path / "models" / "a.safetensors"
    for other in (tmp_path / "link" / output.name, output.parent / ".." / "models" / output.name):
        ran = monoquant(MODEL, output, "--report", other)
        assert ran.code == 2
        assert "name the same file" in ran.err
        assert not output.exists()


@pytest.mark.parametrize(
    ("output", "report"),
    [
        ("a.safetensors", f"{'b' * 300}.json"),
        ("a.safetensors", f"{'b' * 245}.json"),  # which leaves no room for a temporary file beside it
        (f"{'a' * 240}.safetensors", "b.json"),
    ],
    ids=["report", "report, found out late", "model"],
)
def test_where_the_report_or_the_model_cannot_be_written_neither_is(
    tmp_path: Path, monoquant: Commands, output: str, report: str
):
    ran = monoquant(MODEL, tmp_path / output, "--report", tmp_path / report)
    assert (ran.code, ran.out) == (3, "")
    assert not list(tmp_path.iterdir())
