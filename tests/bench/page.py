"""The results as a page of tables."""

from collections.abc import Iterator
from typing import Any

from .tables import table

__all__ = ["page"]


def page(results: dict[str, Any]) -> str:
    """Markdown."""
    return "\n".join(_lines(results)) + "\n"


def _lines(results: dict[str, Any]) -> Iterator[str]:
    machine = results["machine"]
    yield from (
        "# Measurements",
        "",
        "Written by `nox -s bench`. Ratios compare two things that ran in turn in one process; medians.",
        "",
        (
            f"Machine: {machine['cpu']}, torch kernels for {machine['capability']}, "
            f"VNNI {'yes' if machine['vnni'] else 'no'}, {machine['threads']} threads; "
            f"torch {machine['torch']}, Python {machine['python']}."
        ),
        "",
        (
            "MiniLM-L6, EfficientNet-Lite0 and CREPE tiny are pretrained models that come inside pip packages, "
            "with real data; the MLP (1024-4096-4096-1024) has random weights."
        ),
        "",
        "## Accuracy and size, static int8",
        "",
    )
    yield from _accuracy(results["models"])
    yield from ("", "## Latency: float eager over int8, higher is faster", "")
    yield from _latency(results["models"])
    yield from ("", "The same with torch's kernels limited to AVX2 without VNNI (see `tests/bench/__main__.py`):", "")
    yield from _latency(results["models_without_vnni"])
    yield from (
        "",
        (
            "EfficientNet-Lite0 has its convolutions in a subclass that overrides `forward`; these are kept in float, "
            "and the report says so."
        ),
        "",
        "## Schemes side by side: float eager over each, higher is faster",
        "",
        (
            "All in turn in one process; `torch.ao dynamic` is `torch.ao.quantization.quantize_dynamic` of the same "
            "Linear layers. SQNR of the output in dB, on a batch that is held back from calibration."
        ),
        "",
    )
    yield from _speed(results["speed"])
    yield from ("", "The same with torch's kernels limited to AVX2 without VNNI:", "")
    yield from _speed(results["speed_without_vnni"])
    yield from (
        "",
        "## Calibration: time over bare forward passes",
        "",
    )
    yield from table(
        ("model", "observers", "observers and data flow"),
        [(n, f"{r['observers']:.3f}", f"{r['observers_and_flow']:.3f}") for n, r in results["calibration"].items()],
    )
    yield from (
        "",
        "## Peak memory of `quantize`, MB over the float model",
        "",
        (
            "Anonymous memory in use (glibc told to give freed memory back), in a second run: what is imported or "
            "compiled once is not counted. The bound is the quantized model as it runs (tensors and packed weights) "
            "and one batch's activations: its input, and what a bare forward pass of the float or of the quantized "
            "model takes."
        ),
        "",
    )
    yield from table(
        ("model", "float", "tensors", "packed", "activations", "bound", "peak", "peak / bound"),
        [
            (
                n,
                *(
                    f"{r[key]:.1f}"
                    for key in ("float_mb", "tensors_mb", "packed_mb", "activations_mb", "bound_mb", "peak_mb")
                ),
                f"{r['peak_mb'] / r['bound_mb']:.3f}",
            )
            for n, r in results["memory"].items()
        ],
    )
    yield from (
        "",
        "## A checkpoint of 2 GB, without its model",
        "",
        (
            "Float32 weights of 64 MB each in sharded files, quantized with `quantize(folder, scheme=...)`. Resident "
            "memory over that of a process that has only imported everything, the pages of mapped files counted. The "
            "bound is three times the largest tensor and 300 MB. The file is then read with plain safetensors."
        ),
        "",
    )
    yield from table(
        ("scheme", "peak MB", "bound MB", "file MB"),
        [
            (scheme, *(f"{r[key]:.0f}" for key in ("peak_mb", "bound_mb", "file_mb")))
            for scheme, r in results["large_checkpoint"].items()
        ],
    )
    imports = results["imports"]
    yield from (
        "",
        "## Import",
        "",
        (
            f"`import mono_quant` adds {imports['import_ms']:.1f} ms to `import torch`; the first `Quantizer()`, with "
            f"discovery, takes another {imports['first_quantizer_ms']:.0f} ms."
        ),
        "",
        "## Discovery",
        "",
        (
            "The first `Quantizer()` of a process, once it is imported, with fake distributions installed that bring "
            "an observer each; medians of processes in turn."
        ),
        "",
    )
    discovery = {int(count): ms for count, ms in results["discovery"].items()}
    yield from table(
        ("third-party plugins", "ms", "ms more than without"),
        [(str(count), f"{ms:.1f}", f"{ms - discovery[0]:.1f}") for count, ms in discovery.items()],
    )


def _speed(models: dict[str, Any]) -> Iterator[str]:
    rows = []
    for name, batches in models.items():
        for batch, result in batches.items():
            for label, ratio in result["ratios"].items():
                kernels = ", ".join(f"{count} {kernel}" for kernel, count in result["kernels"][label].items())
                sqnr = f"{result['sqnr_db'][label]:.1f}"
                rows.append((name, batch, f"{result['float_ms']:.2f}", label, f"**{ratio:.2f}**", sqnr, kernels or "-"))
    yield from table(("model", "batch", "float ms", "candidate", "ratio", "SQNR", "kernels"), rows)


def _accuracy(models: dict[str, Any]) -> Iterator[str]:
    rows = []
    for name, result in models.items():
        figures = "; ".join(f"{f} {a:.4g} → {b:.4g}" for f, (a, b) in result["figures"].items())
        before, after = result["files_mb"]
        rows.append(
            (
                name,
                f"{result['layers']} of {result['layers'] + result['float_layers']}",
                figures or "none",
                f"{result['sqnr_db']:.1f}",
                f"{result['held_back_sqnr_db']:.1f}",
                f"{before:.2f} → {after:.2f} ({before / after:.2f}x)",
            )
        )
    yield from table(
        (
            "model",
            "layers with parameters quantized",
            "task, float → int8",
            "output SQNR dB (calibration batch)",
            "(held-back batch)",
            "file MB",
        ),
        rows,
    )


def _latency(models: dict[str, Any]) -> Iterator[str]:
    rows = []
    for name, result in models.items():
        row = [name]
        for batch in ("1", "16"):
            figures = result["latency"][batch]
            kernels = ", ".join(f"{count} {kernel}" for kernel, count in figures["kernels"].items())
            row.append(
                f"**{figures['ratio']:.2f}** ({figures['float_ms']:.2f} → {figures['int8_ms']:.2f} ms; {kernels})"
            )
        rows.append(tuple(row))
    yield from table(("model", "batch 1", "batch 16"), rows)
