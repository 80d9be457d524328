"""Sources with one bug each."""

from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import Any

import torch

from mono_quant.errors import CalibrationError
from mono_quant.plugin_api import Batch, Source
from mono_quant.testing import SourceSuite

FINDS: dict[type[SourceSuite], str] = {}


def rows(number: int) -> torch.Tensor:
    return torch.arange(6.0).reshape(2, 3) + number


class Right(Source):
    """Lists and generators of tensors."""

    def accepts(self, data: object) -> bool:
        return isinstance(data, list | Iterator)

    def batches(self, data: Any) -> Iterator[Batch]:
        for number, x in enumerate(data):
            if not isinstance(x, torch.Tensor):
                raise CalibrationError(f"item {number} is no tensor")
            yield Batch((x.clone(),))


def planted(test: str) -> Any:
    def wrap(source: type[Source]) -> type[Source]:
        def accepted(self: SourceSuite) -> Sequence[tuple[Any, Sequence[Batch]]]:
            del self
            expected = [Batch((rows(n),)) for n in range(3)]
            return [([rows(n) for n in range(3)], expected), ((rows(n) for n in range(3)), expected)]

        members = {
            "make": lambda self: source(),
            "accepted": accepted,
            "broken": lambda self: [([rows(0), "text"], "item 1")],
            "endless": lambda self: map(rows, count()),
            "__module__": __name__,
        }
        suite = type(f"Test{source.__name__}", (SourceSuite,), members)
        globals()[suite.__name__] = suite
        FINDS[suite] = test
        return source

    return wrap


@planted("test_batches_come_one_at_a_time")
class CollectsAList(Right):
    def batches(self, data: Any) -> Any:
        return [Batch((x,)) for x in islice(data, 3)]


@planted("test_asking_draws_nothing")
class LooksAtTheFirst(Right):
    def accepts(self, data: object) -> bool:
        return super().accepts(data) and isinstance(next(iter(data)), torch.Tensor)


@planted("test_it_refuses_what_is_no_data")
class AcceptsAnything(Right):
    def accepts(self, data: object) -> bool:
        return True


@planted("test_it_accepts_what_it_reads")
class RefusesGenerators(Right):
    def accepts(self, data: object) -> bool:
        return isinstance(data, list)


@planted("test_the_batches_are_the_expected_ones")
class DropsTheFirst(Right):
    def batches(self, data: Any) -> Iterator[Batch]:
        found = super().batches(data)
        next(found)
        return found


@planted("test_the_batches_are_the_expected_ones")
class GivesTensors(Right):
    def batches(self, data: Any) -> Any:
        return iter(data)


@planted("test_the_batches_are_the_expected_ones")
class Rounds(Right):
    def batches(self, data: Any) -> Iterator[Batch]:
        return (Batch(((x * 1.0001),)) for x in data)


@planted("test_what_a_model_writes_into_a_batch_stays_there")
class ReusesAPage(Right):
    """Each batch begins where the one before it ended, in one page of memory that is filled once."""

    def batches(self, data: Any) -> Iterator[Batch]:
        first = None
        for x in data:
            first = x if first is None else first
            yield Batch((first.add_(0) if x is first else first.copy_(first + 1),))


@planted("test_what_a_model_writes_into_a_batch_stays_there")
class SlidesOverAPage(Right):
    """Each batch is a view of one page, one number further than the batch before."""

    def batches(self, data: Any) -> Iterator[Batch]:
        page = torch.arange(1000.0)
        return (Batch((page[int(x[0, 0]) :][:6].view(2, 3),)) for x in data)


@planted("test_what_a_model_writes_into_a_batch_does_not_reach_the_data")
class HandsOutTheData(Right):
    def batches(self, data: Any) -> Iterator[Batch]:
        return (Batch((x,)) for x in data)


@planted("test_what_a_model_writes_into_a_batch_does_not_reach_the_data")
class HandsOutViewsOfTheData(Right):
    def batches(self, data: Any) -> Iterator[Batch]:
        return (Batch((x[:],)) for x in data)


@planted("test_the_data_is_left_as_it_was")
class ScalesTheData(Right):
    def batches(self, data: Any) -> Iterator[Batch]:
        return (Batch((x.mul_(2) / 2,)) for x in data)


@planted("test_what_is_broken_is_refused_with_a_clear_error")
class LeavesOutWhatIsBroken(Right):
    def batches(self, data: Any) -> Iterator[Batch]:
        return super().batches(x for x in data if isinstance(x, torch.Tensor))


@planted("test_what_is_broken_is_refused_with_a_clear_error")
class FallsOverWhatIsBroken(Right):
    def batches(self, data: Any) -> Iterator[Batch]:
        return (Batch((x.clone(),)) for x in data)


@planted("test_what_is_broken_is_refused_with_a_clear_error")
class DoesNotSayWhichIsBroken(Right):
    def batches(self, data: Any) -> Iterator[Batch]:
        try:
            yield from super().batches(data)
        except CalibrationError as error:
            raise CalibrationError("bad data") from error


@planted("test_the_length_is_right_where_it_is_known")
class Miscounts(Right):
    def length(self, data: Any) -> int | None:
        return len(data) - 1 if isinstance(data, list) else None


@planted("test_two_sources_do_not_share_a_place_in_the_data")
class KeepsItsPlace(Right):
    def batches(self, data: Any) -> Iterator[Batch]:
        self.place = iter(data)
        while True:
            try:
                yield Batch((next(self.place),))
            except StopIteration:
                return


planted("")(Right)
