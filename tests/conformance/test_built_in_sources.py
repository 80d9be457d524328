"""The same for sources."""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from mono_quant.calibration.sources import DataLoaderSource
from mono_quant.plugin_api import Batch
from mono_quant.testing import SourceSuite


def rows(number: int) -> Tensor:
    return torch.arange(6.0).reshape(2, 3) + number


class TestDataLoader(SourceSuite):
    shares_memory = True  # items of a list are the user's own

    def make(self) -> DataLoaderSource:
        return DataLoaderSource()

    def accepted(self) -> Sequence[tuple[Any, Sequence[Batch]]]:
        inputs = [Batch((rows(n),)) for n in range(3)]
        dataset = TensorDataset(torch.cat([rows(n) for n in range(3)]), torch.arange(6))
        keywords = [{"x": rows(n), "mask": torch.ones(2, dtype=torch.bool)} for n in range(2)]
        return [
            ([rows(n) for n in range(3)], inputs),
            ((rows(n) for n in range(3)), inputs),
            (iter([rows(0)]), inputs[:1]),
            (DataLoader(dataset, batch_size=2), inputs),
            ([(rows(n), "a target") for n in range(3)], inputs),
            (keywords, [Batch(kwargs=dict(each)) for each in keywords]),
            ([Batch((rows(0), 2), {"scale": rows(1)})], [Batch((rows(0), 2), {"scale": rows(1)})]),
            (rows(0), inputs[:1]),
            ([], []),
        ]

    def broken(self) -> Sequence[tuple[Any, str]]:
        return [
            ([3], "calibration batch 0"),
            ([rows(0), "text"], "calibration batch 1"),
            ([()], "calibration batch 0"),
            ([[[]]], "calibration batch 0"),
            ([torch.ones(2).numpy()], "batch_fn=torch.from_numpy"),
            ((item for item in [rows(0), None]), "calibration batch 1"),
        ]

    def endless(self) -> Iterator[Tensor]:
        return map(rows, count())


class TestDataLoaderWithBatchFn(TestDataLoader):
    """Each item is turned into a batch by a function of the user's."""

    def make(self) -> DataLoaderSource:
        return DataLoaderSource(batch_fn=lambda item: item["data"])

    def accepted(self) -> Sequence[tuple[Any, Sequence[Batch]]]:
        return [([{"data": rows(n)} for n in range(3)], [Batch((rows(n),)) for n in range(3)])]

    def broken(self) -> Sequence[tuple[Any, str]]:
        return [([{"data": rows(0)}, {"data": 3}], "calibration batch 1")]

    def endless(self) -> Iterator[Any]:
        return ({"data": rows(n)} for n in count())
