"""Whether what a runtime gives is what the reference kernels give."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mono_quant import Batch, Quantizer
from mono_quant.errors import CompilationError
from mono_quant.modules import to_float
from mono_quant.runtimes.agreement import Reference
from mono_quant.testing.models import batches, small_net


@pytest.fixture
def quantized() -> nn.Module:
    return Quantizer(validators=(), kernel="reference").quantize(small_net(), batches()).model


Change = Callable[[Tensor], object]


class Changed(nn.Module):
    def __init__(self, model: nn.Module, change: Change) -> None:
        super().__init__()
        self.model, self.change = model, change

    def forward(self, x: Tensor) -> object:
        return self.change(self.model(x))


def sqnr_of(model: nn.Module, change: Change) -> float | None:
    return Reference(model, Batch((batches()[0],))).sqnr_db(Changed(model, change), "runtime 'mine'")


def test_the_same_numbers_agree(quantized: nn.Module):
    assert sqnr_of(quantized, lambda y: y.clone()) == math.inf


def test_bfloat16_agrees(quantized: nn.Module):
    found = sqnr_of(quantized, lambda y: y.bfloat16().float())
    assert found is not None
    assert 40 < found < 80


@pytest.mark.parametrize(
    "change",
    [
        lambda y: y * 1.1,
        lambda y: y + 0.1 * y.abs().max(),
        lambda y: y.flip(0),
        lambda y: y * torch.nan,
        torch.zeros_like,
    ],
    ids=["scaled", "shifted", "other rows", "NaN", "zeros"],
)
def test_other_numbers_are_refused(quantized: nn.Module, change: Change):
    with pytest.raises(CompilationError, match=r"runtime 'mine' does not give what the reference kernels give: SQNR"):
        sqnr_of(quantized, change)


@pytest.mark.parametrize(
    "change", [lambda y: y[:, :2], lambda y: y.double(), lambda y: (y, y)], ids=["shape", "dtype", "2"]
)
def test_other_tensors_are_refused(quantized: nn.Module, change: Change):
    with pytest.raises(CompilationError, match="where the reference kernels give"):
        sqnr_of(quantized, change)


class Deep(nn.Module):
    """Doubles, in which a step of a code is enlarged."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(12))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.tanh(4 * layer(x))
        return x


def test_codes_that_are_rounded_independently_agree_also_in_a_model_that_enlarges_them():
    torch.manual_seed(0)
    data = [torch.randn(64, 16)]
    deep = Quantizer(validators=(), kernel="reference").quantize(Deep().eval(), data).model
    reference = Reference(deep, Batch((data[0],)))

    class Jittered(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return deep(x * (1 + 3e-4))

    found = reference.sqnr_db(Jittered(), "runtime 'mine'")
    assert found is not None
    assert found < 30, "the model does not enlarge steps, so this shows nothing"


def test_a_runtime_that_leaves_the_codes_out_differs_by_what_they_cost():
    # What float inputs give is as far from the reference as its own noise: that is allowed, and no further.
    torch.manual_seed(0)
    data = [torch.randn(64, 16)]
    deep = Quantizer(validators=(), kernel="reference").quantize(Deep().eval(), data).model
    Reference(deep, Batch((data[0],))).sqnr_db(to_float(deep), "runtime 'mine'")


class Indices(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).argmax(-1)


def test_whole_numbers_must_be_the_same():
    model = Quantizer(validators=()).quantize(Indices().eval(), batches()).model
    assert sqnr_of(model, lambda y: y.clone()) is None
    with pytest.raises(CompilationError, match="other numbers"):
        sqnr_of(model, lambda y: 4 - y)


def test_an_infinity_that_both_give_is_no_noise(quantized: nn.Module):
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = quantized

        def forward(self, x: Tensor) -> Tensor:
            return self.model(x).masked_fill(torch.eye(8, 5, dtype=torch.bool), -math.inf)

    assert sqnr_of(Masked(), lambda y: y.clone()) == math.inf
