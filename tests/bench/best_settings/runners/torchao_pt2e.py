"""torchao's PT2E with the x86 Inductor quantizer, run without Inductor: the arithmetic that it stands for."""

import warnings
from dataclasses import replace

import torch
import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as x86
from torch import nn
from torchao.quantization.pt2e import MinMaxObserver
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from ..contenders import Built
from ..models import Inputs, Model
from .varying import dynamic_shapes

__all__ = ["build"]


def build(model: Model, module: nn.Module, calibration: list[Inputs], *, observer: str = "histogram") -> Built:
    """As its tutorial does it."""
    config = x86.get_default_x86_inductor_quantization_config(reduce_range=not torch.cpu._is_vnni_supported())
    if observer == "minmax":
        spec = replace(config.input_activation, observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=2**-12))
        config = replace(config, input_activation=spec, output_activation=spec)
    quantizer = x86.X86InductorQuantizer().set_global(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(
            module, calibration[0], dynamic_shapes=dynamic_shapes(model), strict=True
        ).module()
        prepared = prepare_pt2e(exported, quantizer)
        for inputs in calibration:
            prepared(*inputs)
        converted = convert_pt2e(prepared)
    return Built(lambda inputs: converted(*inputs))
