# ruff: noqa: INP001 - a script beside the page that shows what it prints
"""The figures of saturation.md. As on a CPU without VNNI:

ONEDNN_MAX_CPU_ISA=AVX2 FBGEMM_ENABLE_INSTRUCTIONS=AVX2 ATEN_CPU_CAPABILITY=avx2 python saturation_figures.py
"""  # noqa: D400, D415 - the last line is the command

import sys

import torch

from mono_quant import Quantizer
from mono_quant.core.weights import quantize_weight
from mono_quant.demo import calibration_data, demo_model, test_data
from mono_quant.io import calculate_sqnr
from mono_quant.kernels.fbgemm import FbgemmKernel
from mono_quant.kernels.onednn import OnednnKernel
from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.modules import QuantizedModule
from mono_quant.plugin_api import QuantizedOp

KERNELS = {"fbgemm": FbgemmKernel(), "onednn": OnednnKernel()}

torch.manual_seed(0)
inputs = torch.rand(64, 512)
cases = {
    "all 1, inputs all 1": (torch.ones(256, 512), torch.ones(64, 512)),
    "all 1": (torch.ones(256, 512), inputs),
    "0.5 to 1": (0.5 + 0.5 * torch.rand(256, 512), inputs),
    "0 to 1": (torch.rand(256, 512), inputs),
    "normal, both signs": (torch.randn(256, 512), inputs),
}


def say(*cells: object) -> None:
    """One line of a table."""
    sys.stdout.write(f"{cells[0]:<22}" + "".join(f"{cell:>14}" for cell in cells[1:]) + "\n")


pairs = {name: "yes" if kernel.pairs_int16 else "no" for name, kernel in KERNELS.items()}
say("adds pairs in int16:", *(f"{name} {answer}" for name, answer in pairs.items()))

say("weights", "codes", "fbgemm", "onednn")
for label, (weight, x) in cases.items():
    for saturation in ("full-range", "pair-safe"):
        codes, scale = quantize_weight(weight, saturation)
        op = QuantizedOp(
            kind="linear", weight=codes, weight_scale=scale, bias=None, input_scale=1 / 255, input_zero_point=0
        )
        exact = ReferenceKernel().pack(op)(x)
        errors = [float((kernel.pack(op)(x) - exact).norm() / exact.norm()) for kernel in KERNELS.values()]
        say(label, saturation, *(f"{error:.1e}" for error in errors))

images, _ = test_data()
with torch.no_grad():
    expected = demo_model()(images)
    say("the demo's classifier", "codes", "exact", "onednn")
    for saturation in ("full-range", "pair-safe"):
        quantizer = Quantizer({"name": "int8-static", "saturation": saturation}, validators=(), show_progress=False)
        model = quantizer.quantize(demo_model(), calibration_data()).model
        figures = []
        for kernel in (ReferenceKernel(), OnednnKernel()):
            for layer in model.modules():
                if isinstance(layer, QuantizedModule):
                    layer.run = kernel.pack(layer.op())  # past the choice of kernels, which would refuse
            figures.append(f"{calculate_sqnr(expected, model(images)):.1f} dB")
        say("output SQNR", saturation, *figures)
