"""What observers have seen in a run, bit for bit what they see of copies of the same inputs outside of one."""

import pytest
import torch
from torch import Tensor, nn

from mono_quant.calibration import run_calibration
from mono_quant.core.observers import (
    AbsMaxObserver,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageObserver,
    MSEObserver,
    PercentileObserver,
)
from mono_quant.core.tensors import same_bits
from mono_quant.errors import CalibrationError
from mono_quant.plugin_api import Observer

OBSERVERS = (
    MinMaxObserver,
    AbsMaxObserver,
    MovingAverageObserver,
    HistogramObserver,
    MSEObserver,
    PercentileObserver,
)
IMAGES = torch.randn(2, 3, 8, 5, generator=torch.Generator().manual_seed(0))
DATA = {
    "normal": IMAGES,
    "channels last": IMAGES.to(memory_format=torch.channels_last),
    "transposed": IMAGES.transpose(1, 3),
    "every other": IMAGES[:, :, ::2],
    "expanded": torch.randn(2, 1, 4).expand(2, 3, 4),
    "zeros of either sign": torch.tensor([[0.0, -0.0], [-0.0, 0.0]]),
    "a negative zero": torch.tensor([[-0.0]]),
    "subnormal": torch.tensor([[1e-45, -1e-45, 3e-39]]),
    "constant": torch.full((4, 4), 0.1),
    "constant and negative": torch.full((4, 4), -3e38),
    "huge": torch.tensor([[3.4e38, -1.0, 0.0]]),
    "float16": torch.randn(3, 7).half(),
    "bfloat16": torch.randn(3, 7).bfloat16(),
    "float64": torch.randn(3, 7, dtype=torch.float64),
}


class Spoiling(nn.Module):
    """Gives its input to a layer and writes into it afterwards, as in-place activations do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self.again = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.preserve_format)
        self.layer(x)
        return self.again(x.fill_(7.0))


@pytest.mark.parametrize("kind", OBSERVERS)
@pytest.mark.parametrize("name", DATA)
def test_a_run_sees_what_an_observer_alone_sees(name: str, kind: type[Observer]):
    x = DATA[name]
    batches = [x, x[:0], x.relu(), x.abs() * 0.5]
    observer = run_calibration(Spoiling(), batches, {"layer": kind()}, show_progress=False)["layer"]
    alone = kind()
    for batch in batches:
        alone.forward(batch.contiguous())
    state, expected = observer.state(), alone.state()
    assert state.keys() == expected.keys()
    assert all(same_bits(state[key], expected[key]) for key in expected)


class Twice(nn.Module):
    """Its second layer is given what its first one makes infinite; then it looks at what it has."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Identity()
        self.second = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x) / 0)
        if not x.isfinite().all():
            raise ValueError("the model looks for itself")
        return self.first(x)


def test_what_is_not_finite_is_named_before_what_the_model_raises_because_of_it():
    with pytest.raises(CalibrationError, match="input of layer 'second' is not finite in calibration batch 0"):
        run_calibration(Twice(), [torch.ones(2, 2)], {"second": MinMaxObserver(), "first": MinMaxObserver()})


@pytest.mark.parametrize("observers", [(MinMaxObserver, HistogramObserver), (MinMaxObserver, AbsMaxObserver)])
def test_the_first_layer_that_was_given_such_numbers_is_named_whichever_observers_there_are(
    observers: tuple[type[Observer], ...],
):
    model = nn.Sequential(nn.Identity(), nn.Identity())
    seeing = {"1": observers[1](), "0": observers[0]()}
    with pytest.raises(CalibrationError, match="input of layer '0' is not finite in calibration batch 1"):
        run_calibration(model, [torch.ones(2, 2), torch.full((2, 2), torch.nan)], seeing)


def test_a_layer_that_is_given_such_numbers_at_its_second_call_comes_after_one_before_it():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Identity()
            self.b = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.a(self.b(self.a(x) * torch.inf))

    with pytest.raises(CalibrationError, match="input of layer 'b' is not finite in calibration batch 0"):
        run_calibration(Model(), [torch.ones(2, 2)], {"a": MinMaxObserver(), "b": MinMaxObserver()})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", OBSERVERS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_it_is_found_in_any_float_type_beside_others(bad: float, kind: type[Observer], dtype: torch.dtype):
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.plain = nn.Identity()
            self.other = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.other(self.plain(x).to(dtype) * torch.tensor([1.0, bad], dtype=dtype))

    with pytest.raises(CalibrationError, match="input of layer 'other' is not finite in calibration batch 0"):
        run_calibration(Mixed(), [torch.ones(2, 2)], {"plain": kind(), "other": kind()})
