"""The signal-to-quantization-noise ratio.

SQNR = 10 · log10(Σ x² / Σ (x - x̂)²)   in dB
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from mono_quant.core.blocks import row_blocks

__all__ = ["energy", "ratio_db", "sqnr_db", "sum_sqnr_db", "without_common_infinities"]


def sqnr_db(x: Tensor, approximation: Tensor) -> float:
    """SQNR of two tensors of one shape, computed in float64.

    ``inf`` only when the noise is exactly zero (also for empty tensors), ``-inf`` when the signal is zero and the
    noise is not, ``nan`` when either holds a NaN or an infinity.
    """
    return sum_sqnr_db([(x, approximation)])


def sum_sqnr_db(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """SQNR of several pairs taken as one signal."""
    energies = [energy(x, approximation) for x, approximation in pairs]
    return ratio_db(sum(signal for signal, _ in energies), sum(noise for _, noise in energies))


def energy(x: Tensor, approximation: Tensor) -> tuple[float, float]:
    """``(Σ x², Σ (x - x̂)²)`` in float64."""
    signal = noise = 0.0
    flat, approximate = x.detach().flatten(), approximation.detach().flatten()
    for block in row_blocks(flat):
        exact = flat[block].double()
        error = exact - approximate[block].double()
        signal += float(exact.dot(exact))
        noise += float(error.dot(error))
    return signal, noise


def ratio_db(signal: float, noise: float) -> float:
    """Two energies as a ratio in dB, with the cases of `sqnr_db`."""
    if not (math.isfinite(signal) and math.isfinite(noise)):
        return math.nan
    if noise == 0:
        return math.inf
    return 10 * (math.log10(signal) - math.log10(noise)) if signal else -math.inf


def without_common_infinities(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both without the elements that are the same infinity in both, as a mask makes them."""
    differs = ~torch.isinf(x) | (x != y)
    return (x, y) if bool(differs.all()) else (x[differs], y[differs])
