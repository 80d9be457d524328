"""The report of a run: at most ten lines, with what its reader must know."""

import math
from collections.abc import Mapping

import pytest
import torch
from small_models import FEATURES, ConvNet, images, mlp, quantize, rows
from torch import nn

from mono_quant import QuantizationInfo, Quantizer, ValidationResult
from mono_quant.plugin_api import Plan, ValidationFinding
from mono_quant.report import make_report

FIGURES = {
    "selected_layers": ("0", "2"),
    "skipped_layers": {},
    "folded_layers": {},
    "calibration_samples_used": 3,
    "dtype": "int8",
    "symmetric": True,
}


def plan() -> Plan:
    return Quantizer().plan(mlp())


def report(validation: ValidationResult | None = None, **figures: object) -> str:
    return make_report(plan(), QuantizationInfo(**FIGURES, **figures), validation)


def line(text: str, label: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(label))


@pytest.mark.parametrize(
    ("before", "after", "words"), [(1.0, 2.5, "2.50 times SLOWER"), (3.0, 1.5, "2.00 times faster")]
)
def test_the_report_says_whether_int8_is_slower_or_faster_and_names_the_kernels(
    before: float, after: float, words: str
):
    kernels = {"0": ("fbgemm",), "2": ("onednn", "fbgemm")}
    text = report(original_latency_ms=before, quantized_latency_ms=after, kernels=kernels)
    assert f"{words} than float (2 fbgemm, 1 onednn)" in line(text, "speed")


def test_without_latencies_nothing_is_said_of_speed():
    assert "speed" not in report()


@pytest.mark.parametrize("count", [0, 1, 3, 4, 50])
def test_the_report_has_at_most_ten_lines_whatever_there_is_to_warn_of(count: int):
    validation = ValidationResult.of(
        [
            ValidationFinding(name="output-sqnr", status="failed", value=3.0, unit="dB", message="too\nlow"),
            ValidationFinding(
                name="weight-sqnr", status="passed", value=40.0, unit="dB", layers={"0": 39.0, "2": 41.0}
            ),
            ValidationFinding(name="load-run", status="failed", message="line one\nline two\n\nline four"),
        ]
    )
    figures = {"original_size_mb": 4.0, "quantized_size_mb": 1.0, "compression_ratio": 4.0}
    times = {"original_latency_ms": 1.0, "quantized_latency_ms": 2.0}
    warnings = tuple(f"warning number {number}\nof many" for number in range(count))
    lines = report(validation, **figures, **times, warnings=warnings).splitlines()
    assert len(lines) <= 10
    shown = [text for text in lines if text.startswith("warning")]
    assert len(shown) == min(count, 10 - (len(lines) - len(shown)))
    if count > len(shown):
        assert shown[-1] == f"warning    and {count - len(shown) + 1} more in info.warnings"


def test_every_reason_to_stay_in_float_is_counted():
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.norm = nn.Embedding(4, FEATURES), nn.LayerNorm(FEATURES)
            self.rnn, self.cell = nn.GRU(FEATURES, FEATURES), nn.GRUCell(FEATURES, FEATURES)
            self.a, self.b, self.c = (nn.Linear(FEATURES, FEATURES) for _ in range(3))

    mixed = Quantizer(exclude=["b", "c"], overrides={"b": None}).plan(Mixed())
    text = make_report(mixed, QuantizationInfo(**FIGURES), None)
    assert line(text, "quantized").startswith("quantized  1 layers (1 Linear), ")
    counted = line(text, "float")
    assert counted.startswith("float      6 layers with parameters: ")
    assert sum(int(part.split()[0]) for part in counted.partition(": ")[2].split("; ")) == 6


def test_sizes_and_accuracy_are_reported():
    validation = ValidationResult.of(
        [
            ValidationFinding(
                name="weight-sqnr", status="passed", value=40.0, unit="dB", layers={"0": 39.0, "2": 41.0}
            ),
            ValidationFinding(name="output-sqnr", status="passed", value=math.inf, unit="dB"),
        ]
    )
    text = report(validation, original_size_mb=4.0, quantized_size_mb=1.25, compression_ratio=3.2)
    assert line(text, "SQNR") == "SQNR       output inf dB; weights 40.0 dB; lowest layer 0 39.0 dB"
    assert line(text, "size") == "size       4.00 MB -> 1.25 MB, 3.20 times smaller"


def test_small_sizes_are_in_kilobytes():
    text = report(original_size_mb=0.25, quantized_size_mb=0.0625, compression_ratio=4.0)
    assert line(text, "size") == "size       0.25 MB -> 64.00 KB, 4.00 times smaller"


def test_without_a_passed_check_the_line_begins_with_the_failed_one():
    failed = ValidationFinding(name="output-sqnr", status="failed", value=3.0, unit="dB", message="too low")
    assert line(report(ValidationResult.of([failed])), "checks") == "checks     output-sqnr: too low"


def test_without_any_check_there_is_no_line_of_checks():
    only_a_figure = ValidationFinding(name="original-size", status="passed", value=3.0, unit="MB")
    assert "checks" not in report(ValidationResult.of([only_a_figure]))


@pytest.mark.parametrize("layers", [{}, {"0": 40.0}])
def test_the_sqnr_of_the_weights_is_not_taken_for_that_of_the_output(layers: Mapping[str, float]):
    findings = [ValidationFinding(name="weight-sqnr", status="passed", value=40.0, unit="dB", layers=layers)]
    assert "output" not in report(ValidationResult.of(findings))


@pytest.mark.parametrize("make", [(mlp, rows), (ConvNet, images)], ids=["Linear", "Conv"])
def test_the_report_of_a_real_run_names_layers_kernels_and_checks(make: tuple):
    result = quantize(make[0](), make[1]())
    text = str(result)
    used = {name for names in result.info.kernels.values() for name in names}
    assert len(text.splitlines()) <= 10
    assert all(name in line(text, "speed") for name in used)
    assert line(text, "checks") == "checks     weight-range passed, load-run passed"
    assert line(text, "quantized").startswith("quantized  2 layers (")


@pytest.mark.parametrize("model", [nn.Linear(2, 3), nn.Linear(64, 64)], ids=repr)
def test_a_run_warns_exactly_when_int8_was_slower(model: nn.Module):
    info = quantize(model, [torch.randn(1, model.in_features)], kernel="reference", validators=("size",)).info
    is_warned = any(text.startswith("the quantized model is slower than float here") for text in info.warnings)
    assert is_warned == (info.quantized_latency_ms > info.original_latency_ms)
