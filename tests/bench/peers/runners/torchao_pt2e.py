"""torchao's PT2E with the x86 Inductor quantizer, compiled with frozen weights: static int8."""

import warnings

import torch
import torch._inductor.compile_fx  # torch.compile would import it within the time of quantization
import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as x86
from torch import Tensor, nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from ..setting import Setting
from ..workloads import Inputs
from .record import Built

__all__ = ["build"]


def build(model: nn.Module, calibration: list[Inputs], setting: Setting) -> Built:
    """As its tutorial does it; compiled at the first call."""
    torch._inductor.config.freezing = True
    may_saturate = setting.is_limited or not torch.cpu._is_vnni_supported()
    config = x86.get_default_x86_inductor_quantization_config(reduce_range=may_saturate)
    quantizer = x86.X86InductorQuantizer().set_global(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Without strict=True a ReLU module that is called twice is one thing to the quantizer, which then refuses it.
        prepared = prepare_pt2e(torch.export.export(model, calibration[0], strict=True).module(), quantizer)
        for inputs in calibration:
            prepared(*inputs)
        converted = convert_pt2e(prepared)
    compiled = torch.compile(converted, dynamic=False)

    def call(inputs: Inputs) -> Tensor:
        return compiled(*inputs)

    return Built(call, lambda folder: torch.save(converted.state_dict(), folder / "model.pt"))
