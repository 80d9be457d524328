"""Linear layers and convolutions whose channels are multiplied and divided: copies, the layers stay as they are."""

import copy
from typing import cast

import torch
from torch import Tensor, nn

from mono_quant.core.granularity import PerChannel, PerGroup
from mono_quant.core.schemes.layers import LINEAR_AND_CONV, overridden
from mono_quant.core.tensor_spec import WeightSpec
from mono_quant.modules import SmoothedLinear

__all__ = ["THROUGH", "is_finite", "is_scaled_by_rows", "may_scale_channels", "scaled_channels", "with_own_factor"]

THROUGH = (nn.Identity, nn.PReLU)
"""Modules with an output of their own that channels keep their factor through: PReLU, and what a BatchNorm was before
it was folded."""


def may_scale_channels(layer: nn.Module) -> bool:
    """Whether this is one of `LINEAR_AND_CONV` and does nothing else, with weight and bias among its parameters."""
    own = layer._parameters  # noqa: SLF001 - what is computed, as by a parametrization, is not in this table
    return type(layer) in LINEAR_AND_CONV and not overridden(layer, type(layer)) and {"weight", "bias"} <= own.keys()


def is_scaled_by_rows(spec: WeightSpec) -> bool:
    """Whether each output channel has scales of its own, so that multiplying one changes no code."""
    grain = spec.granularity
    return isinstance(grain, PerChannel | PerGroup) and grain.axis == 0


def is_finite(layer: nn.Module) -> bool:
    """Whether all of its parameters are finite: in half precision a weight may overflow when it is multiplied."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in layer.parameters(recurse=False))


def scaled_channels(layer: nn.Module, before: Tensor | None = None, after: Tensor | None = None) -> nn.Module:
    """A layer of the same function but for its channels.

    Args:
        layer: one of `LINEAR_AND_CONV`.
        before: what its input was divided by, ``(C,)``.
        after: what its output is to be divided by, ``(R,)``.
    """
    stored = cast("Tensor", layer.weight).detach()
    weight, bias = stored.double(), cast("Tensor | None", layer.bias)
    rows, columns = weight.shape[:2]
    if before is not None:
        groups = before.numel() // columns
        factor = before.to(weight.device).double().reshape(groups, 1, columns).expand(-1, rows // groups, -1)
        weight = weight * factor.reshape(rows, columns, *[1] * (weight.ndim - 2))
    if after is not None:
        divisor = after.to(weight.device).double()
        weight = weight / divisor.reshape(-1, *[1] * (weight.ndim - 1))
        bias = None if bias is None else (bias.detach().double() / divisor).to(bias.dtype)
    scaled = copy.copy(layer)
    scaled._parameters = {  # noqa: SLF001 - a shallow copy shares this table with the original until it gets its own
        "weight": nn.Parameter(weight.to(stored.dtype), requires_grad=False),
        "bias": None if bias is None else nn.Parameter(bias.detach(), requires_grad=False),
    }
    return scaled


def with_own_factor(layer: nn.Linear, factor: Tensor | None) -> SmoothedLinear:
    """A layer of the same function that multiplies its input by ``factor``, ``(K,)``; None for one without numbers.

    In half precision the input is multiplied by the factor rounded to it, and the weight divided by the same.
    """
    weight = layer.weight.detach()
    if factor is None:
        return SmoothedLinear.of(layer, weight, torch.empty(layer.in_features, device=weight.device))
    factor = factor.to(weight.device, weight.dtype)
    divided = (weight.double() / factor.double()).to(weight.dtype)
    return SmoothedLinear.of(layer, divided, factor.float())
