from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from mono_quant.calibration.data import (
    _limit_samples,
    _normalize_calibration_data,
    as_batch,
    count_batches,
    describe,
    iterate_batches,
)
from mono_quant.calibration.sources import DataLoaderSource
from mono_quant.errors import CalibrationError
from mono_quant.plugin_api import Batch

X, Y = torch.arange(3.0), torch.tensor(1)
Pair = namedtuple("Pair", "input target")  # noqa: PYI024 - as users write them


class Stream(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.zeros(5, 3))


@pytest.mark.parametrize(
    "item",
    [X, (X, Y), [X, Y], (X,), [X], (X, Y, Y), ((X, Y), Y), [[X], Y], Pair(X, Y), Batch(args=(X,))],
    ids=describe,
)
def test_the_first_tensor_of_an_item_is_the_argument(item: object):
    batch = as_batch(item)
    assert [arg is X for arg in batch.args] == [True]
    assert batch.kwargs == {}


@pytest.mark.parametrize("item", [{"x": X, "n": 3}, OrderedDict(x=X, n=3), ({"x": X, "n": 3}, Y)], ids=describe)
def test_a_mapping_gives_keyword_arguments(item: object):
    batch = as_batch(item)
    assert batch.args == ()
    assert batch.kwargs["x"] is X
    assert batch.kwargs["n"] == 3


def test_a_batch_is_taken_as_it_is():
    batch = Batch(args=(X, [X, Y]), kwargs={"mask": {"a": Y}})
    assert as_batch(batch) is batch


@pytest.mark.parametrize("item", [None, 3, "text", b"", (), [], (None, X), ("text", X), object(), {X}])
def test_what_is_no_batch_is_refused_with_the_repair(item: object):
    with pytest.raises(CalibrationError, match=r"must be a tensor.*batch_fn="):
        as_batch(item)


def test_an_item_that_is_no_batch_is_named_by_its_number_and_structure():
    with pytest.raises(CalibrationError, match=r"calibration batch 2 must be.*got NoneType"):
        list(iterate_batches([X, X, None, X]))


def test_a_tensor_is_one_batch():
    batches = list(iterate_batches(torch.zeros(5, 3)))
    assert [batch.args[0].shape for batch in batches] == [(5, 3)]


def test_an_empty_source_gives_no_batches():
    assert list(iterate_batches([])) == []


def test_an_endless_generator_is_drawn_from_one_at_a_time():
    drawn = []

    def endless() -> Iterator[Tensor]:
        for number in count():
            drawn.append(number)
            yield X

    assert len(list(islice(iterate_batches(endless()), 3))) == 3
    assert drawn == [0, 1, 2]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ([], 0),
        ([X] * 5, 5),
        (torch.zeros(5, 3), 1),
        (torch.tensor(5.0), 1),
        (DataLoader(TensorDataset(torch.zeros(5, 3)), batch_size=2), 3),
        (DataLoader(Stream(), batch_size=2), None),
        (iter([X]), None),
        (None, None),
    ],
    ids=["empty", "list", "tensor", "number", "loader", "stream", "iterator", "nothing"],
)
def test_batches_are_counted_only_where_they_need_not_be_drawn(data: object, expected: int | None):
    assert count_batches(data) == expected
    assert DataLoaderSource().length(data) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (torch.zeros(2, 3), "float32[2, 3]"),
        (torch.tensor(1), "int64[]"),
        (torch.zeros(0, dtype=torch.bfloat16), "bfloat16[0]"),
        ([X, (X, 1)], "[float32[3], (float32[3], int)]"),
        ({"x": X, 3: None}, "{'x': float32[3], 3: NoneType}"),
        (Batch(args=(X,), kwargs={"mask": [Y]}), "(float32[3], mask=[int64[]])"),
        ("text", "str"),
        ((), "()"),
    ],
)
def test_the_structure_of_an_item_is_told_in_one_line(item: object, text: str):
    assert describe(item) == text


@pytest.mark.parametrize("target", [True, False])
def test_a_loader_of_batch_2_over_5_items_normalizes_to_3_tensors(target: bool):  # noqa: FBT001
    x = torch.arange(15.0).reshape(5, 3)
    data = TensorDataset(x, torch.arange(5)) if target else TensorDataset(x)
    tensors = _normalize_calibration_data(DataLoader(data, batch_size=2))
    assert [tuple(t.shape) for t in tensors] == [(2, 3), (2, 3), (1, 3)]
    assert torch.equal(torch.cat(tensors), x)


def test_a_list_of_tensors_normalizes_to_the_very_same_tensors():
    data = [torch.zeros(n) for n in range(5)]
    assert [a is b for a, b in zip(_normalize_calibration_data(data), data, strict=True)] == [True] * 5


@pytest.mark.parametrize("item", [{"x": X}, Batch(args=(X, X)), Batch(), Batch(args=([X],)), Batch(kwargs={"x": X})])
def test_items_that_hold_no_single_input_cannot_be_normalized(item: object):
    with pytest.raises(CalibrationError, match=r"batch 1 is .*not a single input tensor"):
        _normalize_calibration_data([X, item])


@pytest.mark.parametrize(("wanted", "expected"), [(0, 0), (1, 1), (5, 5), (6, 5), (150, 5)])
def test_at_most_so_many_samples_are_kept_as_are_wanted(wanted: int, expected: int):
    tensors = [torch.tensor(n) for n in range(5)]
    limited = _limit_samples(tensors, wanted)
    assert isinstance(limited, list)
    assert [int(t) for t in limited] == list(range(expected))


@pytest.mark.parametrize("data", [[X], (X,), iter([X]), X, DataLoader(Stream())], ids=lambda data: type(data).__name__)
def test_the_source_accepts_tensors_and_iterables(data: Any):  # noqa: ANN401
    assert DataLoaderSource().accepts(data)


@pytest.mark.parametrize(
    "data",
    ["text", b"bytes", {"x": X}, torch.nn.Sequential(), X.numpy(), None, 5],
    ids=lambda data: type(data).__name__,
)
def test_the_source_leaves_to_others_what_is_surely_not_a_sequence_of_batches(data: object):
    assert not DataLoaderSource().accepts(data)


def test_accepting_draws_nothing():
    data = iter([X, Y])
    DataLoaderSource().accepts(data)
    assert next(data) is X


def test_batch_fn_turns_each_item_when_it_is_asked_for():
    seen = []

    def last(item: tuple[int, Tensor]) -> Tensor:
        seen.append(item[0])
        return item[1]

    batches = DataLoaderSource(batch_fn=last).batches([(0, X), (1, X), (2, X)])
    assert next(batches).args[0] is X
    assert seen == [0]
