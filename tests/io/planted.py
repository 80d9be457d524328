"""A quantized pair of models, and contexts in which something is wrong with it."""

import copy
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from small_models import FEATURES, quantize, rows
from torch import Tensor, nn

from mono_quant import Batch, save_model
from mono_quant.io.checks import run_once
from mono_quant.modules import QuantizedLinear
from mono_quant.plugin_api import ValidationContext, ValidationFinding


def original() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.LayerNorm(16), nn.Linear(16, 4))


@cache
def _quantized() -> nn.Module:
    return quantize(original(), rows(), exclude=["2"], kernel="reference", validators=()).model


def quantized() -> nn.Module:
    """``"0"`` is quantized, ``"1"`` and ``"2"`` are float."""
    return copy.deepcopy(_quantized())


@cache
def _weight_only(scheme: str) -> nn.Module:
    options = {"name": scheme, **({"group_size": 4} if scheme.startswith("int4") else {})}
    return quantize(original(), None, scheme=options, exclude=["2"], validators=()).model


def weight_only(scheme: str = "int4-weight-only") -> nn.Module:
    """The same, and only the weight of ``"0"`` is quantized; 4-bit ones in groups of 4, asymmetric."""
    return copy.deepcopy(_weight_only(scheme))


def layer(model: nn.Module) -> QuantizedLinear:
    return model[0]


def context(
    model: nn.Module, *, batch: Tensor | None = None, after_load: Callable[[nn.Module], object] = lambda _: None
) -> ValidationContext:
    """Of a model and its float original; ``after_load`` harms what loading gives."""

    def load(path: Path) -> nn.Module:
        loaded = copy.deepcopy(model)
        loaded.load_state_dict(load_file(path))
        replaced = after_load(loaded)
        return replaced if isinstance(replaced, nn.Module) else loaded

    floats = original()
    return ValidationContext(
        original=floats,
        quantized=model,
        plan=None,
        batch=None if batch is None else Batch((batch,)),
        run=run_once,
        float_layer=dict(floats.named_modules()).get,
        save=lambda path: save_model(model, path),
        load=load,
    )


def only(findings: Iterable[ValidationFinding], name: str) -> ValidationFinding:
    return next(finding for finding in findings if finding.name == name)
