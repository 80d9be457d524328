import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from _pytest.capture import CaptureIO
from torch import Tensor, nn
from watched_models import two_layers

from mono_quant import Quantizer
from mono_quant.calibration import run_calibration
from mono_quant.calibration.progress import with_progress
from mono_quant.calibration.runner import _auto_detect_progress_threshold

BATCH = torch.zeros(1, 10)

WITHOUT_TQDM = """
import sys
sys.modules["tqdm"] = None
import torch
from mono_quant.calibration import run_calibration
from mono_quant.core.observers import MinMaxObserver
for show in (None, True):
    model, data = torch.nn.Linear(3, 3), [torch.ones(1, 3)] * 60
    print(run_calibration(model, data, {"": MinMaxObserver()}, show_progress=show)[""].max_val.item())
"""


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> pytest.CaptureFixture[str]:
    """A standard error that says that it is a terminal."""
    monkeypatch.setattr(CaptureIO, "isatty", lambda _: True)
    return capsys


def stream(length: int) -> Iterator[Tensor]:
    return (BATCH for _ in range(length))


@pytest.mark.parametrize(("num_samples", "expected"), [(0, False), (50, False), (51, True), (150, True)])
def test_a_run_is_long_from_51_batches_on(num_samples: int, expected: bool):  # noqa: FBT001
    assert _auto_detect_progress_threshold(num_samples) is expected


@pytest.mark.parametrize(
    ("data", "num_samples", "is_shown"),
    [
        ([BATCH] * 51, 150, True),
        ([BATCH] * 50, 150, False),
        ([BATCH] * 100, 51, True),
        ([BATCH] * 100, 50, False),
        (stream(2), 150, True),
        (stream(2), 50, False),
        (torch.zeros(100, 10), 150, False),
    ],
    ids=["51", "50", "51 of 100", "50 of 100", "stream", "short stream", "one tensor of 100 rows"],
)
def test_a_bar_is_shown_by_itself_where_more_than_50_batches_will_run(
    data: object,
    num_samples: int,
    is_shown: bool,  # noqa: FBT001
    terminal: pytest.CaptureFixture[str],
):
    run_calibration(two_layers(), data, num_samples=num_samples)  # type: ignore[arg-type]
    assert ("calibrating" in terminal.readouterr().err) == is_shown


def test_no_bar_comes_by_itself_into_a_log(capsys: pytest.CaptureFixture[str]):
    run_calibration(two_layers(), [BATCH] * 60)
    Quantizer().quantize(nn.Sequential(*(nn.Linear(10, 10) for _ in range(51))), [BATCH] * 60)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("show", [True, False])
@pytest.mark.parametrize("length", [2, 60])
def test_the_callers_wish_decides_whatever_the_length(show: bool, length: int, capsys: pytest.CaptureFixture[str]):  # noqa: FBT001
    run_calibration(two_layers(), [BATCH] * length, show_progress=show)
    assert ("calibrating" in capsys.readouterr().err) == show


def test_a_bar_writes_nothing_to_standard_output(terminal: pytest.CaptureFixture[str]):
    run_calibration(two_layers(), [BATCH] * 60)
    assert terminal.readouterr().out == ""


def test_a_bar_counts_the_batches_that_will_run(terminal: pytest.CaptureFixture[str]):
    run_calibration(two_layers(), [BATCH] * 60, num_samples=55)
    assert "55/55" in terminal.readouterr().err


@pytest.mark.parametrize("show", [True, False, None])
def test_items_pass_unchanged_with_a_bar_and_without(show: bool | None):  # noqa: FBT001
    items = [object(), object()]
    assert list(with_progress(iter(items), total=2, label="", show=show)) == items


def test_without_tqdm_calibration_runs_in_silence():
    command = [sys.executable, "-W", "error", "-c", WITHOUT_TQDM]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own script
    assert (done.returncode, done.stdout, done.stderr) == (0, "1.0\n1.0\n", "")
