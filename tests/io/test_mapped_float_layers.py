"""Float layers beside quantized ones: loaded, their weights begin anywhere in the file's memory map."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mono_quant import Quantizer


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(6, 6)
        self.head = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0])


def two_linears() -> nn.Module:
    return nn.Sequential(nn.Linear(33, 17), nn.ReLU(), nn.Linear(17, 6))


@pytest.mark.parametrize("scheme", ["int8-static", "int8-weight-only"])
@pytest.mark.parametrize(
    ("make", "shape", "name"),
    [(two_linears, (1, 33), "2"), (Recurrent, (5, 6), "head"), (Recurrent, (5, 3, 6), "head")],
    ids=["one-row", "one-sequence", "batch"],
)
def test_they_are_no_reason_for_load_run_to_fail(
    make: Callable[[], nn.Module], shape: tuple[int, ...], name: str, scheme: str
):
    for seed in range(5):
        torch.manual_seed(seed)
        result = Quantizer(scheme, include=[name], validators=["load-run"]).quantize(make(), [torch.randn(shape)])
        assert result.validation is not None
        assert result.validation.load_test_passed
