"""Run as a script: what the kernels do on the CPU that the environment allows, as JSON."""

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import torch

from mono_quant.kernels.fbgemm import FbgemmKernel
from mono_quant.kernels.onednn import OnednnKernel
from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.kernels.saturation import worst_conv, worst_linear
from mono_quant.kernels.select import supports
from mono_quant.plugin_api.kernel import Kernel, QuantizedOp
from mono_quant.testing import adversarial
from mono_quant.testing.distance import distance_from_reference, floats_of

KERNELS: dict[str, Kernel] = {"fbgemm": FbgemmKernel(), "onednn": OnednnKernel()}
CPU = torch.device("cpu")
Findings = dict[str, Any]


def farthest(kernel: Kernel, geometry: adversarial.Geometry, weight: torch.Tensor) -> float:
    """The largest distance from the reference over every zero point, bias and input."""
    distances = []
    for op in adversarial.ops(geometry, weight):
        run = kernel.pack(op)
        for codes in adversarial.codes(geometry).values():
            x = floats_of(codes, op)
            distances.append(distance_from_reference(run(x), x, op, rounds_sums=kernel.rounds_sums))
    return max(distances)


def given(kernel: Kernel, geometry: adversarial.Geometry) -> dict[str, torch.Tensor]:
    """The weights that a kernel may be given here."""
    safe = adversarial.weights(geometry)
    return safe if kernel.pairs_int16 else safe | adversarial.full_range_weights(geometry)


def runs(name: str, geometry: adversarial.Geometry) -> bool:
    """Whether the kernel is made for layers of this kind."""
    return name == "onednn" or geometry.kind == "linear"


def worst_value(kernel: Kernel, op: QuantizedOp) -> float:
    """One output of a layer of ones or worse for the largest input; all its outputs are the same."""
    return float(kernel.pack(op)(torch.full((8, 64, *[8] * len(op.stride)), 255.0)).unique().item())


def findings(pickled: Path) -> Findings:
    """Everything that the tests ask of another CPU."""
    full_range = [("fbgemm", worst_linear()), ("onednn", worst_linear()), ("onednn", worst_conv())]
    return {
        "pairs_int16": {name: kernel.pairs_int16 for name, kernel in KERNELS.items()},
        "pairs_int16_when_unpickled": [kernel.pairs_int16 for kernel in pickle.loads(pickled.read_bytes())],  # noqa: S301
        "distance": {
            name: {
                str(geometry): {label: farthest(kernel, geometry, weight) for label, weight in weights.items()}
                for geometry in adversarial.GEOMETRIES
                if runs(name, geometry)
                for weights in [given(kernel, geometry)]
            }
            for name, kernel in KERNELS.items()
        },
        "full_range": [
            {
                "kernel": name,
                "kind": op.kind,
                "terms": op.weight[0].numel(),
                "value": worst_value(KERNELS[name], op),
                "exact": worst_value(ReferenceKernel(), op),
                "refusal": supports(KERNELS[name], op, CPU).why_not,
            }
            for name, op in full_range
        ],
        "pair_safe_refusals": [
            supports(kernel, worst, CPU).why_not
            for kernel in KERNELS.values()
            for worst in (worst_linear(64), worst_linear(-64))
        ],
    }


if __name__ == "__main__":
    print(json.dumps(findings(Path(sys.argv[1]))))  # noqa: T201 - this is its answer
