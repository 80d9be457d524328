"""Folding a BatchNorm into the convolution before it.

    y = γ · (conv(x, W) + b - μ) / √(σ² + ε) + β  =  conv(x, W · γ/√(σ² + ε)) + (b - μ) · γ/√(σ² + ε) + β

(Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3.2.)
"""

import copy
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mono_quant.plugin_api.algorithm import Algorithm, DataFlow
from mono_quant.plugin_api.plan import Plan, Rewrite

__all__ = ["BatchNormFold", "fold"]

_PAIRS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: nn.BatchNorm1d,
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
}


class BatchNormFold(Algorithm):
    """Folds where the watched flow proves that the BatchNorm alone receives what its convolution gives."""

    def find(self, modules: Mapping[str, nn.Module], plan: Plan, flow: DataFlow) -> Sequence[Rewrite]:
        """One rewrite for each pair ``(convolution, batch norm)`` among the layers to be quantized."""
        tied = set(plan.ties) | set(plan.ties.values())
        shared = {entry.name for entry in plan.entries if entry.also}
        found: list[Rewrite] = []
        if not any(type(module) in _PAIRS.values() for module in modules.values()):
            return found
        for name in plan.layers:
            follower = flow.only_consumer(name)
            if follower is None or {name, follower} & shared or f"{name}.weight" in tied:
                continue
            conv, norm = modules[name], modules[follower]
            is_pair = type(norm) is _PAIRS.get(type(conv)) and _by_rows(conv, flow.output_ndim(name))
            if is_pair and _is_fixed(norm) and not _has_hooks(conv, norm):
                found.append(Rewrite(algorithm="bn-fold", layers=(name, follower), removed={follower: name}))
        return found

    def apply(self, rewrite: Rewrite, modules: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        """The convolution with the BatchNorm in it, and an identity."""
        conv, norm = rewrite.layers
        return {conv: fold(modules[conv], modules[norm]), norm: nn.Identity()}


def fold(conv: nn.Module, norm: nn.Module) -> nn.Module:
    """A new convolution (or Linear) that computes ``norm(conv(x))`` in eval mode; in float64, of conv's dtype."""
    weight = _tensor(conv.weight)
    mean, variance = _tensor(norm.running_mean).double(), _tensor(norm.running_var).double()
    gamma = torch.ones_like(mean) if norm.weight is None else _tensor(norm.weight).double()
    beta = torch.zeros_like(mean) if norm.bias is None else _tensor(norm.bias).double()
    bias = torch.zeros_like(mean) if conv.bias is None else _tensor(conv.bias).double()
    factor = gamma / torch.sqrt(variance + cast("float", norm.eps))
    per_row = factor.reshape(-1, *[1] * (weight.ndim - 1))
    folded = copy.copy(conv)
    folded._parameters = {  # noqa: SLF001 - a shallow copy shares this table with the original until it gets its own
        "weight": _frozen(weight.double() * per_row, weight.dtype),
        "bias": _frozen((bias - mean) * factor + beta, weight.dtype),
    }
    return folded


def _tensor(value: object) -> Tensor:
    return cast("Tensor", value).detach()


def _frozen(tensor: Tensor, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(tensor.to(dtype), requires_grad=False)


def _by_rows(conv: nn.Module, output_ndim: int | None) -> bool:
    """Whether axis 1, which BatchNorm takes as channels, is that of the weight's rows.

    It is another one where Linear gives ``(N, L, out)`` and an unbatched Conv1d ``(out, L)``.
    """
    return output_ndim == _tensor(conv.weight).ndim


def _is_fixed(norm: nn.Module) -> bool:
    """Whether it computes its class's function, with its running statistics, not those of the batch, in eval mode."""
    return norm.running_mean is not None and norm.running_var is not None and "forward" not in vars(norm)


def _has_hooks(*modules: nn.Module) -> bool:
    """Whether somebody watches or changes what passes these modules."""
    return any(m._forward_hooks or m._forward_pre_hooks for m in modules)  # noqa: SLF001 - torch has no public way to ask
