"""Check every scheme on every layer and write the page: ``python -m tests.bench.schemes [--output FILE]``.

Fails when a claim does not hold; the page then says which.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

import mono_quant

from .combination import Refusal, check, planned, quantizer_for
from .layers import LAYERS, MIXED, LayerCase
from .page import Options, Row, Table, page
from .variants import MIX, OPTION_SCHEMES, Variant, defaults, of_options, registered

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "schemes.md"


def table(variant: Variant, cases: Sequence[LayerCase], folder: Path) -> Table:
    """One scheme, a file for each layer."""
    sys.stderr.write(f"checking {variant.scheme} {dict(variant.options) or ''}\n")
    quantizer = quantizer_for(variant)
    rows = []
    for case in cases:
        plan = planned(quantizer, variant, case)
        if isinstance(plan, Refusal):
            wrong = () if plan.is_expected else ("it is refused, though its groups fit",)
            rows.append(Row(case.title, reason=plan.reason, is_refused=True, wrong=wrong))
        elif plan.layers:
            inside = {name.partition(".")[2]: why for name, why in plan.kept.items() if why != "it has no parameters"}
            finding = check(quantizer, variant, [case], folder)
            rows.append(Row(case.title, finding, inside=inside, wrong=(*finding.wrong, *finding.changed)))
        else:
            rows.append(Row(case.title, reason=plan.kept[case.name]))
    return Table(variant.title, rows, note=_note(variant))


def _note(variant: Variant) -> str:
    """What stores which layers, where there are overrides."""
    others = [f"`*{end}`: {other.title}" for end, other in variant.overrides.items()]
    return f"{'; '.join(others)}; all else: {variant.scheme} {dict(variant.options)}." if others else ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.schemes", description=__doc__)
    parser.add_argument("--output", type=Path, default=PAGE)
    output: Path = parser.parse_args().output
    torch.set_num_threads(1)
    machine = {
        "mono_quant": mono_quant.__version__,
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "vnni": "yes" if torch.cpu._is_vnni_supported() else "no",
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tables = [table(variant, LAYERS, folder) for variant in defaults(registered())]
        tables.append(table(MIX, [MIXED], folder))
        options = [
            Options(f"`{scheme}`", [table(variant, LAYERS, folder) for variant in of_options(scheme)])
            for scheme in OPTION_SCHEMES
        ]
    output.write_text(page(machine, tables, options), encoding="utf-8")
    sys.stderr.write(f"written {output}\n")
    everything = [*tables, *(one for scheme in options for one in scheme.tables)]
    wrong = [f"{one.title}, {row.title}: {what}" for one in everything for row in one.rows for what in row.wrong]
    sys.stderr.write("".join(f"WRONG {what}\n" for what in wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
