"""The earlier plan, item by item: the observer and calibration."""

from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mono_quant.calibration import _normalize_calibration_data, run_calibration
from mono_quant.calibration.data import _limit_samples
from mono_quant.calibration.runner import _auto_detect_progress_threshold
from mono_quant.core.observers import MinMaxObserver


def inputs(count: int) -> list[Tensor]:
    return [torch.randn(4, 10) for _ in range(count)]


def test_an_observer_starts_without_a_range():
    observer = MinMaxObserver()
    assert observer.min_val is None
    assert observer.max_val is None


def test_an_observer_of_random_data_gives_two_numbers_and_an_int32_zero_point():
    observer = MinMaxObserver()
    observer.forward(torch.randn(32, 64))
    scale, zero_point = observer.calculate_qparams()
    assert (scale.shape, zero_point.shape, zero_point.dtype) == ((), (), torch.int32)


def test_an_observer_updates_its_range():
    observer = MinMaxObserver(dtype=torch.int8)
    observer.forward(torch.tensor([-1.0, 2.0]))
    observer.forward(torch.tensor([-3.0, 1.0]))
    assert (observer.min_val, observer.max_val) == (-3.0, 2.0)


def test_scale_and_zero_point_are_those_of_the_plan_for_a_range_around_zero():
    observer = MinMaxObserver()
    observer.forward(torch.tensor([-3.0, 7.0]))
    scale, zero_point = observer.calculate_qparams()
    assert scale == torch.tensor(10 / (127 - -128))
    assert zero_point == round(-128 + 3 * Fraction(255, 10))


def test_an_observer_without_data_is_a_runtime_error():
    with pytest.raises(RuntimeError):
        MinMaxObserver().calculate_qparams()


def test_an_observer_that_was_reset_is_a_runtime_error():
    observer = MinMaxObserver()
    observer.forward(torch.randn(32, 64))
    observer.reset()
    assert observer.min_val is None
    with pytest.raises(RuntimeError):
        observer.calculate_qparams()


@pytest.mark.parametrize("constant", [0.0, 1.0, -1.0, 1e-30, 3e38])
def test_a_constant_input_gives_a_scale_of_at_least_1e_8_and_a_zero_point_among_the_codes(constant: float):
    observer = MinMaxObserver()
    observer.forward(torch.full((4, 4), constant))
    scale, zero_point = observer.calculate_qparams()
    assert scale >= 1e-8
    assert -128 <= zero_point <= 127


def test_the_observer_is_our_own():
    assert {cls.__module__.split(".")[0] for cls in MinMaxObserver.__mro__} <= {"mono_quant", "abc", "builtins"}


def test_a_list_of_5_tensors_normalizes_to_5():
    assert len(_normalize_calibration_data(inputs(5))) == 5


def test_a_loader_normalizes_to_the_first_elements_of_its_batches():
    x = torch.randn(5, 10)
    tensors = _normalize_calibration_data(DataLoader(TensorDataset(x, torch.arange(5)), batch_size=2))
    assert len(tensors) == 3
    assert torch.equal(torch.cat(tensors), x)


@pytest.mark.parametrize(("num_samples", "expected"), [(3, 3), (10, 5)])
def test_samples_are_limited(num_samples: int, expected: int):
    assert len(_limit_samples(inputs(5), num_samples)) == expected


@pytest.mark.parametrize(("num_samples", "expected"), [(50, False), (51, True)])
def test_progress_is_for_more_than_50_samples(num_samples: int, expected: bool):  # noqa: FBT001
    assert _auto_detect_progress_threshold(num_samples) is expected


def test_calibration_of_50_of_100_tensors_returns_a_dict():
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU())
    assert run_calibration(model, inputs(100), num_samples=50) == {}


def test_calibration_fills_the_observers_it_is_given():
    observer = MinMaxObserver()
    assert run_calibration(
        nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5)), inputs(3), {"2": observer}
    ) == {"2": observer}
    assert observer.min_val is not None
