"""A run in at most ten lines, for people."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from mono_quant._size import size_text
from mono_quant.info import QuantizationInfo
from mono_quant.io.validation import ValidationResult
from mono_quant.layer_report import LayerReport, worst_layer
from mono_quant.plugin_api.plan import Plan

__all__ = ["make_report"]

_LINES = 10


def make_report(
    plan: Plan, info: QuantizationInfo, validation: ValidationResult | None, layers: Sequence[LayerReport] = ()
) -> str:
    """What was quantized, what not and why, how accurate, how large, how fast and with which kernel.

    Where there is room, what could help the worst layer.
    """
    lines = [*_layers(plan), *_accuracy(validation), *_size(info), *_speed(info), *_checks(validation)]
    room = _LINES - len(lines)
    shown = [f"warning    {text}" for text in info.warnings]
    if len(shown) > room:
        shown = [*shown[: room - 1], f"warning    and {len(shown) - room + 1} more in info.warnings"]
    worst = worst_layer(layers)
    if worst is not None and len(shown) < room:
        shown.append(f"hint       {worst.name or '(model)'}: {worst.hint}")
    return "\n".join(" ".join(line.splitlines()) for line in [*lines, *shown])


def _layers(plan: Plan) -> Iterator[str]:
    quantized = sum(e.parameter_bytes for e in plan.entries if e.name in plan.layers)
    share = 100 * quantized / plan.parameter_bytes if plan.parameter_bytes else 0.0
    kinds = _counted(layer.layer_type for layer in plan.layers.values())
    yield f"quantized  {len(plan.layers)} layers ({kinds}), {share:.1f} % of the parameter bytes"
    if plan.removed:
        yield f"folded     {len(plan.removed)} layers into the layer before them"
    floats = [entry for entry in plan.entries if entry.name in plan.kept and entry.parameter_bytes]
    if floats:
        reasons = Counter(plan.kept[entry.name] for entry in floats).most_common()
        shown = "; ".join(f"{count} x {reason}" for reason, count in reasons[:2])
        rest = f"; {sum(count for _, count in reasons[2:])} for other reasons" if reasons[2:] else ""
        yield f"float      {len(floats)} layers with parameters: {shown}{rest}"


def _accuracy(validation: ValidationResult | None) -> Iterator[str]:
    if validation is None:
        return
    figures = {finding.name: finding.value for finding in validation.findings}
    parts = []
    if figures.get("output-sqnr") is not None:
        parts.append(f"output {validation.sqnr_db:.1f} dB")
    if validation.weight_sqnr_db is not None:
        parts.append(f"weights {validation.weight_sqnr_db:.1f} dB")
    if validation.layer_sqnr_db:
        worst, lowest = min(validation.layer_sqnr_db.items(), key=lambda item: item[1])
        parts.append(f"lowest layer {worst or '(model)'} {lowest:.1f} dB")
    if parts:
        yield f"SQNR       {'; '.join(parts)}"


def _size(info: QuantizationInfo) -> Iterator[str]:
    if info.compression_ratio is not None:
        yield (
            f"size       {size_text(info.original_size_mb or 0)} -> {size_text(info.quantized_size_mb or 0)}, "
            f"{info.compression_ratio:.2f} times smaller"
        )


def _speed(info: QuantizationInfo) -> Iterator[str]:
    if info.speedup is not None:
        word = "faster" if info.speedup >= 1 else "SLOWER"
        ratio = info.speedup if info.speedup >= 1 else 1 / info.speedup
        kernels = _counted(name for names in info.kernels.values() for name in names)
        fused = f"; {len(info.fused_layers)} layers fused" if info.fused_layers else ""
        yield (
            f"speed      {info.original_latency_ms:.2f} ms -> {info.quantized_latency_ms:.2f} ms a batch, "
            f"{ratio:.2f} times {word} than float ({kernels}{fused})"
        )


def _checks(validation: ValidationResult | None) -> Iterator[str]:
    if validation is not None:
        shown = ", ".join(f"{f.name} {f.status}" for f in validation.findings if not f.unit)
        if parts := [*([shown] if shown else []), *validation.errors]:
            yield f"checks     {'; '.join(parts)}"


def _counted(words: Iterable[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in Counter(words).most_common())
