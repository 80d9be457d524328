"""The figures that scores are made of."""

import torch

__all__ = ["equal_error_rate", "pearson", "relative_error", "spearman"]


def pearson(x: torch.Tensor, y: torch.Tensor) -> float:
    """Pearson's correlation of two samples, x ``[N]``, y ``[N]``."""
    return float(torch.corrcoef(torch.stack([x.double(), y.double()]))[0, 1])


def spearman(x: torch.Tensor, y: torch.Tensor) -> float:
    """Spearman's correlation of two samples, x ``[N]``, y ``[N]``: Pearson's, of their ranks."""
    return pearson(_ranks(x), _ranks(y))


def relative_error(x: torch.Tensor, reference: torch.Tensor) -> float:
    """``‖x - reference‖ / ‖reference‖`` over all elements, both of one shape."""
    return float((x - reference).norm() / reference.norm())


def equal_error_rate(likeness: torch.Tensor, is_same: torch.Tensor) -> float:
    """The error of a threshold that errs as often on pairs of the same as on pairs of two.

    Args:
        likeness: of each pair ``[N]``.
        is_same: whether it is a pair of the same ``[N]``.
    """
    thresholds = likeness[:, None]
    missed = (likeness[is_same] < thresholds).float().mean(1)
    mistaken = (likeness[~is_same] >= thresholds).float().mean(1)
    best = (missed - mistaken).abs().argmin()
    return float(missed[best] + mistaken[best]) / 2


def _ranks(x: torch.Tensor) -> torch.Tensor:
    """Ranks from 1, x ``[N]`` → ``[N]``; equal values share the mean of their ranks."""
    _, group, sizes = torch.unique(x, return_inverse=True, return_counts=True)
    ranks: torch.Tensor = sizes.cumsum(0) - (sizes - 1) / 2
    return ranks[group]
