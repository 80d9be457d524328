"""What every source promises."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from mono_quant.core.tensors import is_plain, iter_tensors, same_bits
from mono_quant.errors import CalibrationError
from mono_quant.plugin_api import Batch, Source

__all__ = ["SourceSuite"]

_A_FEW = 3

_FOREIGN = {
    "None": None, "a number": 3, "text": "data", "bytes": b"data", "a mapping": {"x": 1}, "a type": list,
    "a module": nn.Linear(2, 2), "an object": object(), "a function": len,
}  # fmt: skip
"""What nobody means as calibration data."""


class SourceSuite(ABC):
    """Derive a test class from it, and write `make` and `accepted`.

    What a source does with data is compared with what the author says it should give, bit for bit.
    """

    foreign: ClassVar[tuple[str, ...]] = tuple(_FOREIGN)
    """Which of the objects that are no data it must refuse: leave out what it does accept, as ``"text"`` for paths."""

    shares_memory: ClassVar[bool] = False
    """Whether a batch may be memory of the data itself, as the items of a list are.

    What a model writes into it is put back when it has run.
    """

    @abstractmethod
    def make(self) -> Source:
        """A new source."""

    @abstractmethod
    def accepted(self) -> Sequence[tuple[Any, Sequence[Batch]]]:
        """Pairs of data that it accepts and the batches that must come of it; made anew at each call."""

    def broken(self) -> Sequence[tuple[Any, str]]:
        """Pairs of data that it must refuse when it is read, and what the error must name, as the file; made anew."""
        return []

    def endless(self) -> Any:  # noqa: ANN401 - data of whatever type
        """Data without an end that it accepts, to show that it reads only what is asked for; None if there is none."""
        return None

    def test_it_is_a_source(self) -> None:
        assert isinstance(self.make(), Source), "make() must give a mono_quant.plugin_api.Source"
        assert self.accepted(), "accepted() must give at least one example"

    def test_it_accepts_what_it_reads(self) -> None:
        for data, _ in self.accepted():
            assert self.make().accepts(data) is True, f"accepts() must be True for {_name(data)}"

    @pytest.mark.parametrize("what", _FOREIGN)
    def test_it_refuses_what_is_no_data(self, what: str) -> None:
        if what in self.foreign:
            assert self.make().accepts(_FOREIGN[what]) is False, f"accepts() must be False for {what}"

    def test_the_batches_are_the_expected_ones(self) -> None:
        for data, expected in self.accepted():
            found = list(self.make().batches(data))
            assert len(found) == len(expected), f"{_name(data)} gives {len(found)} batches instead of {len(expected)}"
            for number, (one, other) in enumerate(zip(found, expected, strict=True)):
                assert isinstance(one, Batch), f"batch {number} of {_name(data)} is a {_name(one)}"
                assert _same(one, other), f"batch {number} of {_name(data)} is another than expected"

    def test_asking_draws_nothing(self) -> None:
        for (asked, expected), (untouched, _) in zip(self.accepted(), self.accepted(), strict=True):
            source = self.make()
            for _ in range(2):
                source.accepts(asked)
                source.length(asked)
            found = list(source.batches(asked))
            others = list(self.make().batches(untouched))
            same = len(found) == len(others) == len(expected) and all(map(_same, found, others))
            assert same, f"accepts() or length() drew from {_name(asked)}"

    def test_what_is_broken_is_refused_with_a_clear_error(self) -> None:
        for data, named in self.broken():
            assert self.make().accepts(data) in (True, False), f"accepts() must be True or False for {_name(data)}"
            with pytest.raises(CalibrationError, match=re.escape(named)):
                list(self.make().batches(data))
        for data, _ in self.broken():
            with suppress(CalibrationError):
                self.make().length(data)

    def test_the_length_is_right_where_it_is_known(self) -> None:
        for data, expected in self.accepted():
            length = self.make().length(data)
            assert length in (None, len(expected)), (
                f"length() of {_name(data)} is {length}, not {len(expected)} or None"
            )

    def test_batches_come_one_at_a_time(self) -> None:
        for data, expected in self.accepted():
            batches = self.make().batches(data)
            assert isinstance(batches, Iterator), "batches() must give an iterator, not a collection"
            if expected:
                assert _same(next(batches), expected[0])
        data = self.endless()
        if data is not None:
            found = list(islice(self.make().batches(data), _A_FEW))
            assert len(found) == _A_FEW, "endless data must give batches for ever"

    def test_two_sources_do_not_share_a_place_in_the_data(self) -> None:
        for (one, expected), (other, _) in zip(self.accepted(), self.accepted(), strict=True):
            source = self.make()
            pairs = list(zip(source.batches(one), source.batches(other), strict=True))
            same = len(pairs) == len(expected) and all(_same(x, y) for x, y in pairs)
            assert same, "two iterators of one source disturb each other"

    def test_what_a_model_writes_into_a_batch_stays_there(self) -> None:
        for data, given in self.accepted():
            expected = [batch.clone() for batch in given]
            found = _read_and_written_into(self.make(), data)
            same = len(found) == len(expected) and all(map(_same, found, expected))
            assert same, "writing into one batch changed another: they share their memory"

    def test_the_data_is_left_as_it_was(self) -> None:
        for data, given in self._lasting():
            expected = [batch.clone() for batch in given]
            for _ in range(2):
                found = list(self.make().batches(data))
                same = len(found) == len(expected) and all(map(_same, found, expected))
                assert same, f"reading changed the data: read again, {_name(data)} gives other batches"

    def test_what_a_model_writes_into_a_batch_does_not_reach_the_data(self) -> None:
        if self.shares_memory:
            return
        for data, given in self._lasting():
            expected = [batch.clone() for batch in given]
            _read_and_written_into(self.make(), data)
            found = list(self.make().batches(data))
            same = len(found) == len(expected) and all(map(_same, found, expected))
            assert same, f"writing into a batch changed {_name(data)}: copy it, or declare shares_memory if it is meant"

    def _lasting(self) -> list[tuple[Any, Sequence[Batch]]]:
        """The examples of data that can be read more than once."""
        return [pair for pair in self.accepted() if not isinstance(pair[0], Iterator)]


def _read_and_written_into(source: Source, data: object) -> list[Batch]:
    """What the batches were; into each of them something is written before the next is drawn, as a model may do."""
    found = []
    for batch in source.batches(data):
        found.append(batch.clone())
        with torch.inference_mode():  # in which tensors of any mode can be written into
            for tensor in filter(is_plain, iter_tensors((batch.args, dict(batch.kwargs)))):
                tensor.copy_(tensor == 0)
    return found


def _same(one: Batch, other: Batch) -> bool:
    """Equal in structure, and in every bit of every tensor."""
    tensors = [list(iter_tensors((batch.args, dict(batch.kwargs)))) for batch in (one, other)]
    shapes = [_structure((batch.args, dict(batch.kwargs))) for batch in (one, other)]
    return shapes[0] == shapes[1] and all(map(same_bits, *tensors))


def _structure(value: Any) -> Any:  # noqa: ANN401 - nested containers
    """The same containers without the numbers in their tensors."""
    if isinstance(value, torch.Tensor):
        return ("tensor", value.dtype, tuple(value.shape))
    if isinstance(value, dict):
        return {key: _structure(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [type(value).__name__, *map(_structure, value)]
    return value


def _name(value: object) -> str:
    return type(value).__name__
