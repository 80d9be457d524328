from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from watched_models import Keywords, Recorder, Routed, snapshot, two_layers

from mono_quant.calibration import run_calibration
from mono_quant.core.granularity import PerChannel
from mono_quant.core.observers import MinMaxObserver
from mono_quant.errors import CalibrationError, ConfigurationError, PluginError
from mono_quant.plugin_api import Observer


class Forgetful(Observer):
    """An observer in whose range a NaN does not show, as `Observer` lets a plugin declare."""

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        self.largest: Tensor | None = None

    def observe(self, view: Tensor) -> None:
        self.largest = view.nan_to_num(0, 0, 0).abs().amax().reshape(1)

    def range(self) -> tuple[Tensor, Tensor] | None:
        return None if self.largest is None else (-self.largest, self.largest)


def ones_with(bad: float) -> Tensor:
    x = torch.ones(2, 10)
    x[1, 7] = bad
    return x


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "observer",
    [MinMaxObserver(), MinMaxObserver(granularity=PerChannel(1)), Forgetful()],
    ids=lambda o: type(o).__name__,
)
def test_an_input_that_is_not_finite_is_an_error_that_names_layer_and_batch(bad: float, observer: Observer):
    observer.reset()
    data = [torch.ones(2, 10)] * 3 + [ones_with(bad)]
    with pytest.raises(CalibrationError, match="input of layer '0' is not finite in calibration batch 3"):
        run_calibration(two_layers(), data, {"0": observer})


def test_the_layer_where_a_number_first_leaves_the_finite_is_named():
    model = two_layers()
    with torch.no_grad():
        model[0].bias.fill_(float("inf"))
    with pytest.raises(CalibrationError, match="input of layer '2' is not finite in calibration batch 0"):
        run_calibration(model, [torch.ones(1, 10)], {"0": MinMaxObserver(), "2": MinMaxObserver()})


@pytest.mark.parametrize("data", [[], (), iter(())], ids=["list", "tuple", "iterator"])
def test_an_empty_source_is_an_error(data: object):
    with pytest.raises(CalibrationError, match="calibration data is empty"):
        run_calibration(two_layers(), data, {"0": MinMaxObserver()})  # type: ignore[arg-type]


def test_layers_that_never_ran_are_named():
    with pytest.raises(CalibrationError, match=r"no calibration batch reached 'rarely'.*exclude=\['rarely'\]"):
        run_calibration(Routed(), [torch.ones(1, 3)], {"often": MinMaxObserver(), "rarely": MinMaxObserver()})


@pytest.mark.parametrize(
    ("count", "which"),
    [(1, "calibration batch 0 has no rows"), (3, "all calibration batches, 0 to 2, have no rows")],
)
def test_batches_without_rows_are_an_error_that_says_so(count: int, which: str):
    with pytest.raises(CalibrationError, match=rf"{which}: the first is \(float32\[0, 10\]\)"):
        run_calibration(two_layers(), [torch.empty(0, 10)] * count, {"0": MinMaxObserver()})


def test_a_batch_without_rows_among_others_does_no_harm():
    observers = run_calibration(two_layers(), [torch.empty(0, 10), torch.ones(1, 10)], {"0": MinMaxObserver()})
    assert observers["0"].max_val == 1


def test_a_layer_that_got_only_empty_inputs_never_ran():
    class Filtering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x[x[:, 0] > 1])

    with pytest.raises(CalibrationError, match="no calibration batch reached 'inner'"):
        run_calibration(Filtering(), [torch.ones(2, 3)], {"inner": MinMaxObserver()})


def test_a_batch_that_does_not_fit_the_signature_is_shown_beside_it():
    with pytest.raises(CalibrationError) as caught:
        run_calibration(Keywords(), [{"x": torch.ones(1, 3)}, {"y": torch.ones(1, 3)}])
    message = str(caught.value)
    assert "calibration batch 1 failed in Keywords.forward(*, x:" in message
    assert "called with (y=float32[1, 3])" in message
    assert "unexpected keyword argument 'y'" in message


def test_a_batch_whose_shape_does_not_fit_is_an_error_that_names_layer_and_batch():
    with pytest.raises(CalibrationError) as caught:
        run_calibration(nn.ModuleDict({"m": two_layers()})["m"], [torch.ones(1, 10), torch.ones(1, 9)])
    message = str(caught.value)
    assert "calibration batch 1 failed in Sequential.forward" in message
    assert "in its layer '0'" in message
    assert "called with (float32[1, 9])" in message


def test_the_innermost_layer_that_was_running_is_named():
    model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.ReLU(), nn.Linear(4, 3)))
    with pytest.raises(CalibrationError, match=r"in its layer '1\.1'"):
        run_calibration(model, [torch.ones(1, 3)])


def test_the_error_of_the_model_is_kept_as_the_cause():
    with pytest.raises(CalibrationError) as caught:
        run_calibration(Keywords(), [torch.ones(1, 3)])
    assert isinstance(caught.value.__cause__, TypeError)


def test_an_observer_that_does_not_fit_its_layer_is_named_by_layer_and_batch():
    with pytest.raises(PluginError, match=r"calibration batch 0: .*layer '2'.*PerChannel\(axis=5\)"):
        run_calibration(two_layers(), [torch.ones(1, 10)], {"2": MinMaxObserver(granularity=PerChannel(5))})


def test_an_observed_layer_that_gets_no_tensor_is_named_with_what_it_got():
    class Lists(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Identity()

        def forward(self, x: Tensor) -> object:
            return self.inner([x, x])

    with pytest.raises(CalibrationError, match=r"layer 'inner' got \[float32\[2\], float32\[2\]\].* in batch 0"):
        run_calibration(Lists(), [torch.ones(2)], {"inner": MinMaxObserver()})


def test_an_item_that_is_no_batch_is_an_error_that_names_its_number():
    with pytest.raises(CalibrationError, match=r"calibration batch 1 must be .*got str"):
        run_calibration(two_layers(), [torch.ones(1, 10), "oops"])


def test_a_name_that_the_model_has_not_is_an_error_that_lists_what_it_has():
    with pytest.raises(ConfigurationError, match=r"\['encoder'\], which the model has not.*'0', '1', '2'"):
        run_calibration(two_layers(), [torch.ones(1, 10)], {"encoder": MinMaxObserver()})


def broken(error: BaseException) -> Iterator[Tensor]:
    yield torch.ones(2, 3)
    raise error


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ([torch.ones(2, 3), torch.ones(2, 4)], CalibrationError),
        ([torch.ones(2, 3), torch.full((2, 3), torch.nan)], CalibrationError),
        ([torch.ones(2, 3), "oops"], CalibrationError),
        ([], CalibrationError),
        (broken(OSError("disk")), OSError),
        (broken(KeyboardInterrupt()), KeyboardInterrupt),
        (None, TypeError),
    ],
    ids=["misfit", "nan", "no batch", "empty", "failing source", "interrupted", "no data"],
)
def test_after_any_failure_the_model_is_as_it_was(data: object, error: type[BaseException]):
    model = Recorder().train()
    model.norm.eval()
    before = snapshot(model)
    with pytest.raises(error):
        run_calibration(model, data, {"layer": MinMaxObserver(), "drop": MinMaxObserver()})  # type: ignore[arg-type]
    assert snapshot(model) == before
    assert torch.is_grad_enabled()


def test_after_an_unknown_name_the_model_is_as_it_was():
    model = Recorder().train()
    before = snapshot(model)
    with pytest.raises(ConfigurationError):
        run_calibration(model, [torch.ones(2, 3)], {"layer": MinMaxObserver(), "absent": MinMaxObserver()})
    assert snapshot(model) == before
