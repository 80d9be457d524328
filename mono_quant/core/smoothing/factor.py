"""How much of the spread of an input's channels the weights take over.

SmoothQuant (Xiao et al. 2022, https://arxiv.org/abs/2211.10438, equation 4) divides channel ``j`` of the input by

    s_j = max|x_j|^α / max|W_j|^(1 - α)

and multiplies the weights of that channel by it, which changes nothing but what is rounded. The paper takes one ``α``
for a whole model. Here each layer has that of least noise: rounding to steps of ``Δ`` adds a variance of ``Δ²/12`` to
each number, and the errors of different numbers are taken as independent, so that the outputs of a layer have

    noise(s) = Δx(s)²/12 · Σ_rj (W_rj s_j)²  +  Σ_r Δw_r(s)²/12 · Σ_j E[x_j²]/s_j²

where ``Δx`` is the step of the input and ``Δw_r`` that of row ``r`` of the weight, by their ranges after ``s``.

Shape suffixes: R rows (outputs), K channels (inputs).
"""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor

from mono_quant.core.blocks import row_blocks
from mono_quant.core.smoothing.input_channels import InputChannels
from mono_quant.core.smoothing.reader import Reader
from mono_quant.core.smoothing.sizes import floored, step
from mono_quant.core.tensor_spec import TensorSpec

__all__ = ["best_divisor", "divisor", "noise"]

_LEAST_PART = 1e-5
"""Of the largest channel: what weaker ones are taken for."""

_WORTH_IT = 0.9
"""The part of the noise that may be left at most: a factor that saves less is not worth its multiplication."""


def best_divisor(readers: Sequence[Reader[InputChannels]], alphas: Iterable[float]) -> Tensor | None:
    """The divisor, float64 ``(K,)``, of least noise; None where none saves a tenth of it.

    Args:
        readers: all layers that read one tensor, which is quantized; the noise of each counts as a part of its output.
        alphas: to choose from.
    """
    inputs = readers[0].inputs
    power = [float((r.weight.float().square() @ inputs.mean_square.float()).sum()) for r in readers]

    def total(s_K: Tensor) -> float:
        return sum(noise(r, s_K) / p for r, p in zip(readers, power, strict=True) if p)

    largest_K = torch.stack([r.weight.abs().amax(dim=0).double() for r in readers]).amax(dim=0)
    candidates = [divisor(inputs, largest_K, alpha) for alpha in alphas]
    best_K = min(candidates, key=total)
    plain = torch.ones_like(best_K)
    return best_K if total(best_K) < _WORTH_IT * total(plain) and bool(torch.isfinite(best_K).all()) else None


def divisor(inputs: InputChannels, largest_K: Tensor, alpha: float) -> Tensor:
    """``s``, float64 ``(K,)``, scaled to a geometric mean of 1, which changes no noise.

    Args:
        inputs: of the layers.
        largest_K: ``max|W_j|`` over all of them.
        alpha: 0 makes the channels of the weight alike, 1 those of the input.
    """
    low_K, high_K = inputs.range
    sizes_K = floored(torch.maximum(-low_K, high_K), _LEAST_PART)
    s_K = sizes_K**alpha / floored(largest_K, _LEAST_PART) ** (1 - alpha)
    return s_K / s_K.log().mean().exp()


def noise(reader: Reader[InputChannels], s_K: Tensor) -> float:
    """The variance of rounding in a layer's outputs, summed over them: the formula above."""
    weight_RK, inputs = reader.weight, reader.inputs
    low_K, high_K = (end / s_K for end in inputs.range)
    step_of_input = step(low_K.amin(), high_K.amax(), cast("TensorSpec", reader.input_spec))
    squares = steps = 0.0
    for block in row_blocks(weight_RK):
        scaled = weight_RK[block].float() * s_K.float()
        squares += float(scaled.double().square().sum())
        steps += float(step(scaled.amin(dim=1), scaled.amax(dim=1), reader.spec).square().sum())
    of_input = float(step_of_input.square()) * squares
    of_weight = steps * float((inputs.mean_square / s_K.square()).sum())
    return (of_input + of_weight) / 12
