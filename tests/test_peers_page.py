"""The pure parts of the benchmark against peers: workloads give what they say, and rows become a page."""

import time
from pathlib import Path

import pytest
import torch
from bench.peers.cell import in_a_line
from bench.peers.page import by_speed, left_out, page
from bench.peers.rows import Cell, Figures, Row, read_all, write
from bench.peers.runners import PEERS, Peer, peers_of
from bench.peers.setting import AVX2, FULL, Setting
from bench.peers.timing import Turns, in_turn
from bench.peers.workloads import WORKLOADS

PLAIN = Setting(2, FULL)
LIMITED = Setting(2, AVX2)


def figures(ratio: float, sqnr_db: float | None = 30.0) -> Figures:
    return Figures(
        ratio=ratio,
        ratio_low=ratio - 0.1,
        ratio_high=ratio + 0.1,
        float_ms=10.0,
        peer_ms=10.0 / ratio,
        rounds=7,
        sqnr_db=sqnr_db,
        peak_mb=12.0,
        file_mb=24.0,
        quantize_s=1.0,
        first_call_s=0.5,
        details="3 fbgemm",
    )


def row(peer: str, ratio: float | None, *, setting: Setting = PLAIN, case: str = "batch 1", why: str = "") -> Row:
    cell = Cell(workload="mlp", case=case, peer=peer, setting=setting)
    found = None if ratio is None else figures(ratio)
    return Row(cell=cell, figures=found, why_left_out=why, cpu="a CPU", versions={"torch": "2.13.0"})


def test_the_fastest_comes_first() -> None:
    rows = [row("float-eager", 1.0), row("ours-int8-static", 6.5), row("torchao-pt2e", None), row("openvino-int8", 1.5)]
    assert [name for name, _ in by_speed(rows)] == ["ours-int8-static", "openvino-int8", "float-eager"]


def test_who_is_left_out_is_named_with_the_reason() -> None:
    without = left_out("mlp", [row("torchao-pt2e", None, why="not installed: torchao"), row("float-eager", 1.0)])
    assert without["torchao-pt2e"] == "not installed: torchao"
    assert without["onnxruntime-static"] == "not measured"
    assert "float-eager" not in without
    assert set(without) | {"float-eager"} == {peer.name for peer in peers_of("mlp")}


def test_a_row_becomes_a_line_of_the_table() -> None:
    text = page([row("ours-int8-static", 6.5)])
    assert "## 2 threads, all instructions of the machine" in text
    assert "### MLP 1024-4096-4096-1024 (25.2 M parameters, random weights), batch 1" in text
    line = "| `ours-int8-static` | **6.50** | 6.40 to 6.60 | 1.54 | 30.0 | +12 | 24.0 | 1.0 | 0.5 | 3 fbgemm |"
    assert line in text.splitlines()
    assert "Machine: a CPU. Versions: torch 2.13.0." in text


def test_the_summary_has_the_fastest_of_ours_and_of_the_others() -> None:
    rows = [row("float-eager", 9.0), row("ours-int8-static", 6.5), row("ours-int8-dynamic", 7.0), row("openvino-w8", 2)]
    expected = (
        "| mlp, batch 1 | 10.00 (10.00 to 10.00) | **7.00** `ours-int8-dynamic` (30.0 dB) | **2.00** `openvino-w8`"
    )
    assert expected in page(rows)


def test_each_setting_has_a_section_and_the_limited_one_says_how() -> None:
    text = page([row("float-eager", 1.0, setting=LIMITED), row("float-eager", 1.0)])
    assert text.index("## 2 threads, all instructions") < text.index("## 2 threads, limited to AVX2")
    assert text.count("ONEDNN_MAX_CPU_ISA=AVX2") == 1


def test_an_exact_output_has_no_figure_in_db() -> None:
    one = row("float-eager", 1.0)
    exact = Row(cell=one.cell, figures=figures(1.0, sqnr_db=None))
    assert "| exact |" in page([exact])


def test_a_page_without_rows_is_a_page() -> None:
    assert page([]).startswith("# Peers\n")


def test_rows_come_back_from_their_files(tmp_path: Path) -> None:
    rows = [row("float-eager", 1.0), row("torchao-pt2e", None, why="no"), row("float-eager", 1.0, case="batch 64")]
    for one in rows:
        write(one, tmp_path)
    write(rows[0], tmp_path)
    assert sorted(map(repr, read_all(tmp_path))) == sorted(map(repr, rows))


def test_what_is_not_installed_is_named() -> None:
    peer = Peer("a-peer", "a_file", ("mlp",), needs=("torch", "no-such-distribution"))
    assert peer.why_not(PLAIN) == "not installed: no-such-distribution"


def test_what_cannot_be_limited_is_left_out_when_limited() -> None:
    peer = Peer("a-peer", "a_file", ("mlp",), why_not_limited="it has no switch")
    assert (peer.why_not(PLAIN), peer.why_not(LIMITED)) == ("", "it has no switch")


def test_only_what_is_limited_has_the_variables_that_limit() -> None:
    assert PLAIN.environment == {"OMP_NUM_THREADS": "2"}
    assert LIMITED.environment["ATEN_CPU_CAPABILITY"] == "avx2"


def test_every_peer_has_a_file_and_one_record_for_a_workload() -> None:
    folder = Path(__file__).parent / "bench" / "peers" / "runners"
    assert {peer.file for peer in PEERS} <= {path.stem for path in folder.glob("*.py")}
    for workload in WORKLOADS:
        names = [peer.name for peer in peers_of(workload)]
        assert len(names) == len(set(names))


def test_an_error_is_told_in_one_line_without_folders() -> None:
    assert in_a_line(ValueError("\nin /some/where/model.py: wrong\nand more")) == "ValueError: in model.py: wrong"
    assert len(in_a_line(ValueError("long " * 100))) < 250


def test_ratios_are_taken_round_by_round() -> None:
    assert Turns([10.0, 20.0, 40.0], [5.0, 10.0, 10.0]).ratios == (2.0, 2.0, 3.0)


def test_both_calls_get_as_many_turns() -> None:
    turns = in_turn(lambda: time.sleep(0.02), lambda: time.sleep(0.02), budget_s=0.0)
    assert len(turns.first) == len(turns.second) == 3


@pytest.mark.parametrize(
    ("name", "shape", "output"),
    [
        ("resnet18", (2, 3, 64, 64), (2, 1000)),
        ("mobilenet_v2", (2, 3, 64, 64), (2, 1000)),
        ("llama", (2, 5), (2, 5, 8000)),
        ("mlp", (3, 1024), (3, 1024)),
    ],
)
def test_workloads_give_what_they_say(
    name: str, shape: tuple[int, ...], output: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = WORKLOADS[name]
    monkeypatch.setattr("bench.peers.workloads.images._SIZE", 64)
    model, (inputs,) = workload.load(), workload._file.inputs(shape, 1, held_back=False)
    with torch.no_grad():
        out = model(*inputs)
    assert out.shape == output
    assert not model.training
    assert 0.01 < out.std() < 10


def test_what_is_held_back_is_not_calibrated_on() -> None:
    workload = WORKLOADS["mlp"]
    seen, held_back = workload.calibration("batch 64"), workload.held_back("batch 64")
    assert (len(seen), len(held_back)) == (4, 4)
    assert not any(torch.equal(a, b) for (a,) in seen for (b,) in held_back)


def test_calibration_takes_32_samples() -> None:
    assert len(WORKLOADS["mlp"].calibration("batch 1")) == 32
