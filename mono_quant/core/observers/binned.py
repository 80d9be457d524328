"""Counting values in bins of equal width: what is kept when a range is searched for after the data is gone."""

from abc import abstractmethod
from copy import copy
from typing import ClassVar, Self

import torch
from torch import Tensor

from mono_quant.core.granularity import Granularity
from mono_quant.core.observers.bins import Bins
from mono_quant.core.observers.ends import ends_of
from mono_quant.core.observers.pieces import pieces
from mono_quant.core.qtypes import QType
from mono_quant.errors import ConfigurationError
from mono_quant.plugin_api.observer import Observer

__all__ = ["BinnedObserver"]

_LARGEST = torch.finfo(torch.float32).max
_LEAST_EXPONENT = -126
"""Of a bin's width: its inverse too is a float32. Data below ``2^-126 · bins`` gets fewer bins."""
_ALL_IN_ONE = 40
"""After so many doublings all bins of one sign are one."""


class BinnedObserver(Observer):
    """Counts how many values fall into each bin; how the range is found from that is for a subclass to say.

    A bin is ``w = 2^e`` wide. Bin k holds ``((k - 1) w, k w]`` for k from 1 to ``bins - 1``, bin 0 the zeros alone,
    which cost no error whatever the range, and bin -k what mirrors bin k. ``e`` is the smallest for which the largest
    magnitude seen has a bin. When that grows, pairs of bins become one, counts and all: a bin of the new width holds
    what two of the old one held. The counts are therefore those of all the data in bins of the last width, to the last
    value, whatever the batches and their order; and two observers merge exactly.

    Args:
        bins: on each side of zero, the zeros counted in; at least half of those of one side are within the data. A
            group takes 16 bytes for each.
        dtype: integer type of the codes.
        symmetric: whether the range is centred on zero.
        granularity: which elements share a scale.
    """

    mergeable: ClassVar[bool] = True

    def __init__(
        self,
        *,
        bins: int = 2048,
        dtype: str | torch.dtype | QType = "int8",
        symmetric: bool = False,
        granularity: Granularity | None = None,
    ) -> None:
        super().__init__(dtype=dtype, symmetric=symmetric, granularity=granularity)
        if type(bins) is not int or not 2 <= bins <= 2**20:  # noqa: PLR2004 - float32 tells so many apart with ease
            raise ValueError(f"bins must be a whole number from 2 to {2**20}, got {bins!r}")
        if self.qtype.is_float:
            raise ConfigurationError(f"{type(self).__name__} weighs the errors of integer codes, not {self.qtype.name}")
        self.bins = bins
        self.reset()

    @abstractmethod
    def search(self, bins: Bins) -> tuple[Tensor, Tensor]:
        """``(min, max)``, 0-d float64, of one group with data that is not zero, in the units of its bins."""

    def reset(self) -> None:
        """Forget all data."""
        self._seen: tuple[Tensor, Tensor, Tensor] | None = None
        self._found: tuple[Tensor, Tensor] | None = None

    def observe(self, view: Tensor) -> None:
        """Count the values in ``view``, ``(observations, groups, elements)``; float64 is taken as float32."""
        x = view.clamp(-_LARGEST, _LARGEST).float() if view.dtype is torch.float64 else view.float()
        low, high = ends_of(x)
        self._widen(low, high)
        counts, _, _ = self._kept
        lowest = 0 if self._has_negative else self.bins - 1
        for piece in pieces(x, least=2 * counts.shape[1]):
            counts[:, lowest:] += self._counted(piece, lowest)

    def range(self) -> tuple[Tensor, Tensor] | None:
        """``(min, max)``, each ``(groups,)``, float32, within the data; None when nothing was observed."""
        if self._seen is None:
            return None
        if self._found is None:
            counts, low, high = self._seen
            ends = [self._search(*group) for group in zip(counts, low, high, self._width, strict=True)]
            self._found = (torch.stack([end for end, _ in ends]), torch.stack([end for _, end in ends]))
        return self._found

    def merge(self, other: Self) -> None:
        """Add the other's counts, in bins of the greater width; exact.

        Raises:
            ValueError: when it has another number of bins.
        """
        self._refuse_other(other.bins)
        if other._seen is None:
            return
        theirs = copy(other)
        self._widen(*theirs._kept[1:])  # noqa: SLF001 - in bins of the greater width of the two
        theirs._widen(*self._kept[1:])  # noqa: SLF001 - the same
        self._kept[0].add_(theirs._kept[0])  # noqa: SLF001

    def state(self) -> dict[str, Tensor]:
        """``{"bin_counts": (groups, 2 · bins - 1) int64, "min": (groups,), "max": (groups,)}``, or empty.

        The counts are in the order of the values; the middle one is that of the zeros. The width of a bin follows from
        the ends.
        """
        if self._seen is None:
            return {}
        counts, low, high = (x.clone() for x in self._seen)
        return {"bin_counts": counts, "min": low, "max": high}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` gave, also that of another kind of observer that counts in bins.

        Raises:
            ValueError: when it is of another number of bins.
        """
        if state:
            self._refuse_other((state["bin_counts"].shape[1] + 1) // 2)
        self.reset()
        if state:
            self._keep(state["bin_counts"].clone(), state["min"].clone(), state["max"].clone())

    @property
    def _kept(self) -> tuple[Tensor, Tensor, Tensor]:
        if self._seen is None:
            raise RuntimeError(f"{type(self).__name__} has observed no data")
        return self._seen

    def _keep(self, counts: Tensor, low: Tensor, high: Tensor) -> None:
        self._seen, self._found = (counts, low, high), None
        self._exponent = _exponent(torch.maximum(-low, high), self.bins)
        self._width = torch.ldexp(torch.ones_like(low, dtype=torch.float64), self._exponent)
        # Times 2^126 down to 2^0 is exact in float32. A quotient by more could be too small for it, and count as zero.
        precise = torch.float64 if bool((self._exponent > 0).any()) else torch.float32
        self._inverse = (1 / self._width).to(precise)[:, None]
        self._has_negative = bool((low < 0).any())

    def _refuse_other(self, bins: int) -> None:
        if bins != self.bins:
            raise ValueError(f"counts in {bins} bins do not fit an observer with bins={self.bins}")

    def _widen(self, low: Tensor, high: Tensor) -> None:
        """Make place for data between these ends."""
        self._found = None
        if self._seen is None:
            self._keep(torch.zeros(len(low), 2 * self.bins - 1, dtype=torch.int64), low, high)
            return
        counts, least, most = self._seen
        if bool(((low >= least) & (high <= most)).all()):
            return
        before = self._exponent
        self._keep(counts, torch.minimum(least, low), torch.maximum(most, high))
        doublings = self._exponent - before
        if bool(doublings.any()):
            self._seen = (_coarsened(counts, doublings), *self._kept[1:])

    def _counted(self, x: Tensor, lowest: int) -> Tensor:
        """``(groups, n) → (groups, P)``, the counts from place ``lowest`` on: the first, or that of the zeros."""
        groups, places = len(x), self._kept[0].shape[1] - lowest
        x = x.to(self._inverse.dtype)
        if lowest:
            bin_ = x.mul(self._inverse).ceil_()
        else:
            bin_ = x.abs().mul_(self._inverse).ceil_().copysign_(x).add_(self.bins - 1)
        place = bin_.to(torch.int32 if groups * places < 2**31 else torch.int64)
        if groups > 1:
            place += torch.arange(0, groups * places, places, dtype=place.dtype)[:, None]
        return place.flatten().bincount(minlength=groups * places).view(groups, places)

    def _search(self, counts: Tensor, low: Tensor, high: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        unit = torch.maximum(-low, high).double()
        if not bool(counts[: self.bins - 1].any()) and not bool(counts[self.bins :].any()):
            return low, high
        places = torch.arange(1 - self.bins, self.bins, dtype=torch.float64)
        edges = (places * width / unit).clamp(low.double() / unit, high.double() / unit)
        bins = Bins(counts=torch.cat([counts[: self.bins - 1], counts[self.bins :]]), edges=edges, unit=float(unit))
        ends = [(end * unit).float().clamp(low, high) for end in self.search(bins)]
        return ends[0], ends[1]


def _exponent(largest: Tensor, bins: int) -> Tensor:
    """The smallest e for which ``largest <= (bins - 1) · 2^e``, int64, at least -126."""
    fraction, exponent = torch.frexp(largest.double() / (bins - 1))
    exponent = exponent.long() - (fraction == 0.5).long()  # noqa: PLR2004 - a power of two itself
    return torch.where(largest > 0, exponent, _LEAST_EXPONENT).clamp(min=_LEAST_EXPONENT)


def _coarsened(counts: Tensor, doublings: Tensor) -> Tensor:
    """The counts in bins that are ``2^doublings`` times as wide: bin k is part of bin ``ceil(k / 2^doublings)``.

    ``counts [G, P], doublings [G] → [G, P]``
    """
    middle = counts.shape[1] // 2
    bins = torch.arange(-middle, middle + 1)
    shift = doublings.clamp(max=_ALL_IN_ONE)[:, None]
    magnitude = (bins.abs() + (1 << shift) - 1) >> shift
    return torch.zeros_like(counts).scatter_add_(1, magnitude * bins.sign() + middle, counts)
