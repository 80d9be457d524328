"""What the torch that is installed can do: a row of ``docs/reference/torch-versions.md``, by ``nox -s versions``.

``python -m tests.bench.torch_version --junit FILE --rows FOLDER`` reads what pytest found, tries every kernel, and
quantizes a model, and writes ``FOLDER/<version>.json``. ``--page`` writes the page from all rows there instead.
"""

import argparse
import json
import sys
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from mono_quant import Quantizer
from mono_quant._plugins.manager import PluginManager
from mono_quant.kernels.select import supports
from mono_quant.plugin_api import Op
from mono_quant.testing import adversarial
from mono_quant.testing.models import batches, small_net

from .tables import table

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "torch-versions.md"
SCHEMES = ("int8-static", "int8-dynamic", "int8-weight-only", "float8-weight-only", "float16")
OPS = {
    "quantized.linear_with_input_q_dq_qweight_dq_output_fp32": "fbgemm",
    "onednn.qlinear_pointwise": "onednn, linear layers",
    "onednn.qconv_pointwise": "onednn, convolutions",
    "aten._weight_int8pack_mm": "int8pack",
    "aten._weight_int4pack_mm_for_cpu": "int4pack",
}
"""What kernels are made of, by the kernel that needs it."""


def examples() -> Iterator[tuple[str, Op]]:
    """One op of each kind, with a name."""
    for kind in ("linear", "conv1d", "conv2d", "conv3d"):
        geometry = next(one for one in adversarial.GEOMETRIES if one.kind == kind and one.channels > 1)
        yield kind, next(adversarial.ops(geometry, adversarial.weights(geometry)["random"]))
    for storage in adversarial.WEIGHT_STORAGE:
        yield storage, adversarial.weight_only_op(storage, 16, 64)


def row(junit: Path | None) -> dict[str, Any]:
    """What is found here."""
    cpu = torch.device("cpu")
    kernels = {record.spec.name: record.spec.factory() for record in PluginManager.with_plugins().kernels}
    verdicts = {
        name: {what: supports(kernel, op, cpu).why_not for what, op in examples()} for name, kernel in kernels.items()
    }
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sqnr = {
            scheme: Quantizer(scheme, show_progress=False, autoload=False).quantize(small_net(), batches()).info.sqnr_db
            for scheme in SCHEMES
        }
    told = sorted({f"{one.category.__name__}: {str(one.message).splitlines()[0]}" for one in caught})
    return {
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "tests": None if junit is None else counted(junit),
        "failed": [] if junit is None else failed_in(junit),
        "missing_ops": [name for name in OPS if not has_op(name)],
        "kernels": {name: [what for what, why_not in found.items() if not why_not] for name, found in verdicts.items()},
        "sqnr_db": sqnr,
        "warnings": [one for one in told if not one.startswith("QuantizationWarning")],
    }


def has_op(name: str) -> bool:
    """Whether torch has an operator of that name."""
    namespace, _, op = name.partition(".")
    return hasattr(getattr(torch.ops, namespace), op)


def counted(junit: Path) -> dict[str, int]:
    """What pytest counted."""
    suite = next(ET.parse(junit).getroot().iter("testsuite")).attrib  # noqa: S314 - pytest wrote it
    failed = int(suite["failures"]) + int(suite["errors"])
    return {
        "passed": int(suite["tests"]) - failed - int(suite["skipped"]),
        "failed": failed,
        "skipped": int(suite["skipped"]),
    }


def failed_in(junit: Path) -> list[str]:
    """The tests that failed, each once whatever its parameters."""
    cases = ET.parse(junit).getroot().iter("testcase")  # noqa: S314 - pytest wrote it
    failed = (case for case in cases if case.find("failure") is not None or case.find("error") is not None)
    return list(dict.fromkeys(f"{case.attrib['classname']}.{case.attrib['name'].partition('[')[0]}" for case in failed))


def page(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    return "\n".join(_lines(rows)) + "\n"


def _lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield from (
        "# Versions of torch",
        "",
        (
            "Written by `nox -s versions`, which runs the whole test suite with each version and then asks it what it "
            "can do. `pip install mono-quant` takes any torch from 2.9 on."
        ),
        "",
    )
    yield from table(
        ("torch", "Python", "tests", "operators missing", "warnings of torch while quantizing"),
        [
            (
                one["torch"],
                one["python"],
                ", ".join(f"{count} {what}" for what, count in (one["tests"] or {}).items() if count) or "not run",
                ", ".join(f"`{name}` ({OPS[name]})" for name in one["missing_ops"]) or "none",
                "; ".join(one["warnings"]) or "none",
            )
            for one in rows
        ],
    )
    for one in rows:
        if one["failed"]:
            yield from (
                "",
                f"With torch {one['torch']} these fail: " + ", ".join(f"`{name}`" for name in one["failed"]) + ".",
            )
    yield from (
        "",
        "## Kernels",
        "",
        "What each kernel runs: layers with quantized inputs, and weights of linear layers by how they are stored.",
        "",
    )
    names = list(dict.fromkeys(name for one in rows for name in one["kernels"]))
    yield from table(
        ("kernel", *(one["torch"] for one in rows)),
        [(f"`{name}`", *(", ".join(one["kernels"].get(name, [])) or "nothing" for one in rows)) for name in names],
    )
    yield from (
        "",
        "## Accuracy",
        "",
        "Output SQNR in dB of a small model with fixed weights, on its calibration data.",
        "",
    )
    yield from table(
        ("scheme", *(one["torch"] for one in rows)),
        [(f"`{scheme}`", *(f"{one['sqnr_db'][scheme]:.2f}" for one in rows)) for scheme in SCHEMES],
    )


def main() -> None:
    """Write a row, or the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--junit", type=Path)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--page", action="store_true")
    arguments = parser.parse_args()
    if arguments.page:
        rows = [json.loads(path.read_text(encoding="utf-8")) for path in arguments.rows.glob("*.json")]
        in_order = sorted(rows, key=lambda one: [int(part) for part in one["torch"].split("+")[0].split(".")])
        PAGE.write_text(page(in_order), encoding="utf-8")
        return
    found = row(arguments.junit)
    arguments.rows.mkdir(parents=True, exist_ok=True)
    (arguments.rows / f"{found['torch']}.json").write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
