"""Float weights made from codes and kept for the next call, within a budget of memory for the whole process."""

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import attrs
from torch import Tensor

from mono_quant.core.tensors import versions
from mono_quant.errors import ConfigurationError

__all__ = ["FLOAT_CACHE", "FloatCache"]

_SWITCH = "MONO_QUANT_FLOAT_CACHE_MB"
_DEFAULT_MB = 1024
_AGEING = 16
_Key = tuple[int, str]


@attrs.frozen(eq=False)
class _Kept:
    made: Tensor
    sources: tuple[Tensor, ...]
    versions: tuple[int, ...]
    """Of the sources, and of what was made: who writes into that shall not change the layer."""
    owner: weakref.ref[object]

    def is_of(self, sources: tuple[Tensor, ...]) -> bool:
        same = len(sources) == len(self.sources) and all(a is b for a, b in zip(sources, self.sources, strict=True))
        return same and versions((*sources, self.made)) == self.versions


class FloatCache:
    """Keeps what was made; when there is no room for more, what was used last is let go.

    That is what a model needs last, for it reads its weights in turn: of one that is a little larger than the budget,
    nearly everything is kept. To let go of what was not used for longest would let go of each weight just before it is
    needed. This is done every 16th time only, so that a model that is no longer used makes room for another.

    Args:
        budget: in bytes; None reads MONO_QUANT_FLOAT_CACHE_MB (default: 1024) whenever something is made.
    """

    def __init__(self, budget: int | None = None) -> None:
        self._budget = budget
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        """In the order of their last use."""
        self._let_go = 0
        # An owner may go at any time, also while this thread holds the lock.
        self._lock = threading.RLock()

    @property
    def budget(self) -> int:
        """Bytes that may be kept.

        Raises:
            ConfigurationError: when the switch is not a number.
        """
        if self._budget is not None:
            return self._budget
        text = os.environ.get(_SWITCH, str(_DEFAULT_MB))
        if not (text.isascii() and text.isdigit()):
            raise ConfigurationError(f"{_SWITCH} must be a whole number of MB, got {text!r}")
        return int(text) * 2**20

    @property
    def nbytes(self) -> int:
        """Bytes that are kept now."""
        with self._lock:
            # Not over the dictionary itself: the garbage collector may let an owner go at any step.
            return sum(kept.made.nbytes for kept in list(self._kept.values()))

    def get(self, owner: object, name: str, sources: tuple[Tensor, ...], make: Callable[[], Tensor]) -> Tensor:
        """What ``make`` gives, from the cache where the sources are the same tensors, not written into since.

        Args:
            owner: the object that it belongs to; when that goes, what is kept for it goes.
            name: which of its tensors.
            sources: what it is made of.
            make: makes it.

        Raises:
            ConfigurationError: when the switch is not a number.
        """
        key = (id(owner), name)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and kept.is_of(sources):
                self._kept.move_to_end(key)
                return kept.made
        budget, before = self.budget, versions(sources)
        made = make()
        with self._lock:
            self._kept.pop(key, None)
            is_kept = made.nbytes <= budget
            self._make_room(budget - made.nbytes if is_kept else budget)
            if is_kept:
                gone = weakref.ref(owner, partial(self._drop, key))
                self._kept[key] = _Kept(made, sources, (*before, *versions((made,))), gone)
        return made

    def forget(self, owner_id: int) -> None:
        """Let go of all that is kept for an owner, by its ``id``."""
        with self._lock:
            for key in list(self._kept):
                if key[0] == owner_id:
                    self._drop(key)

    def _make_room(self, nbytes: int) -> None:
        """Let go until no more than this is kept."""
        while self.nbytes > nbytes:
            self._let_go += 1
            self._kept.popitem(last=self._let_go % _AGEING != 0)

    def _drop(self, key: _Key, _: object = None) -> None:
        with self._lock:
            self._kept.pop(key, None)


FLOAT_CACHE = FloatCache()
"""The cache of the process."""
