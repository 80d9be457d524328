"""By what the input channels of linear layers are multiplied, so that rounding their weights costs the outputs least.

AWQ (Lin et al. 2023, https://arxiv.org/abs/2306.00978, equations 4 and 5) multiplies channel ``j`` of the weights by

    s_j = mean|x_j|^α        α from 0 to 1

before they are rounded, and divides the input by it. Where inputs are large, rounding then costs less. Others
(https://github.com/casper-hansen/AutoAWQ) also divide by what the weights themselves have:

    s_j = mean|x_j|^α / mean(|w_j| / max|w in its group|)^(1 - α)

1. Candidates are the first formula and the second on a grid of ``α``, and ``s = 1``, which changes nothing.
2. The error of a layer's outputs, squared and summed over all rows of input that were seen, is exactly
   ``tr(D H Dᵀ) / 2`` with ``H = 2 XᵀX`` and ``D = round(W s) / s - W``, rounded as the layer's scheme stores weights.
   It counts as a part of the outputs themselves, ``tr(W H Wᵀ) / 2``. Layers that read the same have one ``s``, that of
   the least sum.
3. ``s`` is scaled to a geometric mean of 1, which changes nothing but the last bits. Channels whose inputs were all
   zero have 1: what the data did not show is not taken from them.

Shape suffixes: R rows (outputs), K channels (inputs).
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from mono_quant.core.awq.seen_inputs import SeenInputs
from mono_quant.core.blocks import row_blocks
from mono_quant.core.encoding import decode_channels, encode
from mono_quant.core.granularity import PerTensor
from mono_quant.core.smoothing.reader import Reader
from mono_quant.core.smoothing.sizes import floored

__all__ = ["best_factor", "candidates", "error", "power"]

_LEAST_PART = 1e-4
"""Of the largest channel: what weaker ones are taken for."""


def best_factor(layers: Sequence[Reader[SeenInputs]], *, grid: int, at_most: float) -> Tensor | None:
    """What the input is to be multiplied by, ``1 / s``, float32 ``(K,)``; None where nothing is good enough.

    Args:
        layers: all that read it.
        grid: how many steps ``α`` takes from 0 to 1, in each formula.
        at_most: the part of the error that may be left.
    """
    powers = [power(layer) or 1.0 for layer in layers]

    def total(factor_K: Tensor) -> float:
        return sum(error(layer, factor_K) / of_all for layer, of_all in zip(layers, powers, strict=True))

    plain_K = torch.ones_like(layers[0].inputs.magnitude, dtype=torch.float32)
    best, least = None, at_most * total(plain_K)
    for divisor_K in candidates(layers, grid=grid):
        factor_K = divisor_K.reciprocal().float()
        found = total(factor_K)
        if found < least:  # not where it is NaN, as in half precision when a weight overflows
            best, least = factor_K, found
    return best


def candidates(layers: Sequence[Reader[SeenInputs]], *, grid: int) -> Iterator[Tensor]:
    """Each ``s`` that is tried beside 1, float64 ``(K,)``."""
    inputs_K = layers[0].inputs.magnitude
    weights_K = floored(_share_of_group(layers), _LEAST_PART)
    used_K = inputs_K > 0
    inputs_K = floored(inputs_K, _LEAST_PART)
    for step in range(grid + 1):
        alpha = step / grid
        if step:
            yield _centred(inputs_K**alpha, used_K)
        if step < grid:
            yield _centred(inputs_K**alpha / weights_K ** (1 - alpha), used_K)


def error(layer: Reader[SeenInputs], factor_K: Tensor) -> float:
    """``tr(D H Dᵀ)`` of a layer whose input is multiplied by ``factor_K``: twice the squared error of its outputs."""
    factor_K = factor_K.to(layer.weight.device)
    divided_RK = (layer.weight.double() / factor_K.double()).to(layer.weight.dtype)
    stored = encode(divided_RK, layer.spec)

    def change(block: slice) -> Tensor:
        decoded_RK = decode_channels(stored, layer.spec, block).mul_(factor_K)
        return decoded_RK.sub_(layer.weight[block].float())

    return _weighed(layer, change)


def power(layer: Reader[SeenInputs]) -> float:
    """``tr(W H Wᵀ)``: twice the square of its outputs without their bias."""
    return _weighed(layer, lambda block: layer.weight[block].float())


def _weighed(layer: Reader[SeenInputs], rows: Callable[[slice], Tensor]) -> float:
    """``tr(A H Aᵀ)`` of a matrix of the weight's shape that is made some rows at a time."""
    hessian_KK = layer.inputs.hessian.to(layer.weight.device)
    blocks = (rows(block) for block in row_blocks(layer.weight))
    return sum(float((some @ hessian_KK).mul_(some).sum(dtype=torch.float64)) for some in blocks)


def _share_of_group(layers: Sequence[Reader[SeenInputs]]) -> Tensor:
    """The mean of ``|w| / max|w of those that share its scale|`` over the rows of all layers, float64 ``(K,)``."""
    total, rows = torch.zeros_like(layers[0].inputs.magnitude), 0
    tiny = torch.finfo(torch.float32).tiny
    for layer in layers:
        weight_RK, size = layer.weight, layer.spec.group_size
        largest = float(weight_RK.abs().max())
        for block in row_blocks(weight_RK):
            share = weight_RK[block].abs().float()
            if isinstance(layer.spec.granularity, PerTensor):
                share.div_(max(largest, tiny))
            else:
                for start in range(0, share.shape[1], size):
                    group = share[:, start : start + size]
                    group.div_(group.amax(dim=1, keepdim=True).clamp(min=tiny))
            total += share.sum(0, dtype=torch.float64).to(total.device)
        rows += len(weight_RK)
    return total / rows


def _centred(divisor_K: Tensor, used_K: Tensor) -> Tensor:
    """Of geometric mean 1 over the channels that were used; 1 for others."""
    logs = divisor_K.log()
    return torch.where(used_K, logs - logs[used_K].mean(), 0).exp()
