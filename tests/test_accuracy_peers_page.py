"""The pure parts of the benchmark of accuracy: rows become a page, and rows decide what is measured next."""

from pathlib import Path

from bench.best_settings.contenders import ALGORITHMS, OBSERVERS, asked, contender
from bench.best_settings.models import MODELS
from bench.best_settings.page import page
from bench.best_settings.rows import GateRow, Row, best, read_all, read_gates, write

CREPE = MODELS["crepe"]


def row(name: str, sqnr_db: float, chosen_db: float = 0.0, *, cents: float = 2.5, why: str = "") -> Row:
    return Row(
        model="crepe",
        contender=name,
        figures={"median_cents": cents},
        sqnr_db=sqnr_db,
        chosen_db=chosen_db,
        seconds=1.25,
        peak_mb=12.0,
        why_left_out=why,
        cpu="a CPU",
        versions={"torch": "2.13.0"},
    )


def test_rows_come_back_from_their_files(tmp_path: Path) -> None:
    rows = [row("nncf", 30.0), row("ours / minmax / none", 31.0, why="an error")]
    gate = GateRow(model="crepe", target="MinSQNR(30)", evaluations=3, changed={"conv1": "float"})
    for one in (*rows, gate):
        write(one, tmp_path)
    assert read_all(tmp_path) == rows
    assert read_gates(tmp_path) == [gate]


def test_settings_are_chosen_by_calibration_data() -> None:
    assert best([row("a", 40.0, 20.0), row("b", 30.0, 21.0)]).contender == "b"


def test_every_contender_is_found_by_its_name() -> None:
    for model in MODELS.values():
        for one in asked(model, []):
            assert contender(one.name) == one


def test_the_best_of_both_edges_are_combined_and_then_given_the_full_range() -> None:
    edges = [one.name for one in asked(CREPE, []) if one.is_ours]
    assert len(edges) == len(OBSERVERS) + len(ALGORITHMS) - 1
    good = {"ours / mse / none": 2.0, "ours / minmax / bias-correction": 3.0}
    rows = [row(name, 0.0, good.get(name, 1.0)) for name in edges]
    more = [one.name for one in asked(CREPE, rows) if one.is_ours]
    assert "ours / mse / bias-correction" in more
    assert "ours / mse / smoothquant" in more
    assert "ours / percentile / bias-correction" in more
    assert "ours / percentile / smoothquant" not in more
    rows += [row(name, 0.0, 4.0 if name == "ours / mse / bias-correction" else 1.0) for name in set(more) - set(edges)]
    assert "ours / mse / bias-correction / full-range" in [one.name for one in asked(CREPE, rows)]


def test_the_summary_says_who_is_ahead_in_what() -> None:
    text = page([row("ours / minmax / none", 36.0, cents=2.6), row("nncf", 33.5, cents=2.5)], [])
    assert "| CREPE tiny | `minmax / none` (36.0 dB) | `nncf` (33.5 dB) | **+2.5 dB** |" in text
    assert "ours by SQNR, theirs by the task" in text


def test_who_could_not_is_named_with_the_reason() -> None:
    assert "- `nncf`: `no LSTM`" in page([row("nncf", 0.0, why="no LSTM")], [])


def test_a_target_is_a_line_with_what_it_kept_in_float() -> None:
    gate = GateRow(
        model="crepe",
        target="MaxDrop",
        evaluations=4,
        layers=7,
        first=-2.9,
        value=-2.6,
        is_met=True,
        changed={"conv1": "float", "conv2": "int8-weight-only"},
        seconds=3.0,
    )
    line = "| CREPE tiny | `MaxDrop(median_cents, 0.1)` | -2.9 | -2.6 | 4 | 7 | 1 `int8-weight-only` | 1: `conv1` | 3 |"
    assert line in page([], [gate])
