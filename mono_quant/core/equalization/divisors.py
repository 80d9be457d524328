"""What the channels between the layers of a chain are divided by.

Dividing output channel ``j`` of a layer by ``s_j`` and multiplying the weights of the next that read it changes nothing
but what is rounded. Both have channels of the same range where

    s_j = √(r1_j / r2_j)        with  r1_j = max|W1_j·|,  r2_j = max|W2_·j|

(Nagel et al. 2019, https://arxiv.org/abs/1906.04721, equation 11.) A layer in the middle of a chain has a part in two
of these, so that they are found one after the other until they no longer change. Where they do not save a tenth of the
noise, by a formula, nothing is divided.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mono_quant.core.equalization.link import Link

__all__ = ["best_divisors", "divisors", "noise"]

_ROUNDS = 10
_SETTLED = 0.05
"""The largest change of a divisor, as a part of it, at which it is taken as found."""
_WORTH_IT = 0.9
"""The part of the noise that may be left at most."""


def best_divisors(chain: Sequence[Link]) -> list[Tensor] | None:
    """The divisors, float64 ``(C,)`` for each layer but the first; None where they do not save a tenth of the noise."""
    found = divisors(chain)
    plain = noise(chain, [torch.ones_like(s) for s in found])
    is_finite = all(bool(torch.isfinite(s).all()) for s in found)
    return found if is_finite and noise(chain, found) < _WORTH_IT * plain else None


def divisors(chain: Sequence[Link]) -> list[Tensor]:
    """Those that make the ranges of weights alike, for layers each of which the next alone reads."""
    found = [torch.ones_like(link.mean_square) for link in chain]  # one more at the front, which stays 1
    last = torch.ones(chain[-1].low.shape[0], dtype=torch.float64, device=chain[-1].low.device)
    for _ in range(_ROUNDS):
        change = 0.0
        for place in range(1, len(chain)):
            before, after = chain[place - 1], chain[place]
            first = before.outputs(found[place - 1]) / found[place]
            second = after.inputs((*found, last)[place + 1]) * found[place]
            step = (first / second).sqrt()
            found[place] = found[place] * step
            change = max(change, float((step - 1).abs().max()))
        if change < _SETTLED:
            break
    return found[1:]


def noise(chain: Sequence[Link], found: Sequence[Tensor]) -> float:
    """That of all layers of the chain, summed, each as a part of its output as the next layer reads it."""
    first = torch.ones_like(chain[0].mean_square)
    last = torch.ones(chain[-1].low.shape[0], dtype=torch.float64, device=chain[-1].low.device)
    ends = [first, *found, last]
    counts = [*(link.weights_of_inputs() for link in chain[1:]), last]
    return sum(link.noise(s, t, c) for link, s, t, c in zip(chain, ends[:-1], ends[1:], counts, strict=True))
