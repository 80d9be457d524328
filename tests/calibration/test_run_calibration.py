import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from watched_models import Keywords, Recorder, Routed, snapshot, two_layers

from mono_quant.calibration import run_calibration
from mono_quant.calibration.runner import feed
from mono_quant.core.granularity import PerChannel
from mono_quant.core.observers import MinMaxObserver
from mono_quant.errors import CalibrationError, ConfigurationError
from mono_quant.plugin_api import Batch


def test_without_observers_it_returns_an_empty_mapping():
    assert run_calibration(two_layers(), [torch.randn(2, 10)]) == {}


def test_it_returns_the_observers_that_it_was_given():
    observers = {"0": MinMaxObserver(), "2": MinMaxObserver(dtype="uint8")}
    returned = run_calibration(two_layers(), [torch.randn(2, 10)], observers)
    assert returned == observers


def test_each_observer_sees_the_input_of_its_layer_over_all_batches():
    model = two_layers()
    data = [torch.randn(4, 10) * scale for scale in (1, 5, 2)]
    found = run_calibration(model, data, {"0": MinMaxObserver(), "2": MinMaxObserver()})
    with torch.no_grad():
        inputs = {"0": torch.cat(data), "2": torch.cat([model[1](model[0](x)) for x in data])}
    for name, x in inputs.items():
        assert (found[name].min_val, found[name].max_val) == (x.min(), x.max())


def test_an_observer_of_channels_sees_them():
    x = torch.randn(6, 10)
    found = run_calibration(two_layers(), [x], {"0": MinMaxObserver(granularity=PerChannel(1))})["0"]
    assert torch.equal(found.max_val, x.amax(dim=0))


def test_the_model_itself_can_be_observed_by_the_empty_name():
    x = torch.randn(2, 10)
    assert run_calibration(two_layers(), [x], {"": MinMaxObserver()})[""].max_val == x.max()


def test_a_shared_layer_can_be_observed_under_any_of_its_names():
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, layer)
    found = run_calibration(model, [torch.ones(1, 3) * 50], {"1": MinMaxObserver()})["1"]
    both = torch.cat([torch.ones(1, 3) * 50, layer(torch.ones(1, 3) * 50).detach()])
    assert (found.min_val, found.max_val) == (both.min(), both.max())


@pytest.mark.parametrize(
    "batch",
    [
        {"x": torch.ones(2, 3), "scale": 4.0},
        Batch(kwargs={"x": torch.ones(2, 3), "scale": 4.0}),
        ({"x": torch.ones(2, 3), "scale": 4.0}, torch.tensor(1)),
    ],
    ids=["mapping", "Batch", "mapping with target"],
)
def test_a_model_of_keyword_arguments_runs_and_its_layers_are_observed(batch: object):
    assert run_calibration(Keywords(), [batch], {"layer": MinMaxObserver()})["layer"].max_val == 4.0


def test_nested_arguments_reach_the_model_as_they_are():
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, parts: list[Tensor], options: dict[str, Tensor]) -> Tensor:
            return self.layer(parts[1] + options["shift"])

    batch = Batch(args=([torch.zeros(1), torch.ones(1, 3)],), kwargs={"options": {"shift": torch.tensor(2.0)}})
    assert run_calibration(Nested(), [batch], {"layer": MinMaxObserver()})["layer"].max_val == 3.0


def test_a_layer_that_only_some_batches_reach_is_observed_on_those():
    data = [torch.ones(1, 3), torch.ones(1, 3) * 200, torch.ones(1, 3)]
    found = run_calibration(Routed(), data, {"rarely": MinMaxObserver(), "often": MinMaxObserver()})
    assert (found["rarely"].min_val, found["often"].min_val) == (200.0, 1.0)


def test_a_loader_gives_the_input_of_each_of_its_batches():
    x = torch.randn(5, 10)
    loader = DataLoader(TensorDataset(x, torch.arange(5)), batch_size=2)
    assert run_calibration(two_layers(), loader, {"0": MinMaxObserver()})["0"].min_val == x.min()


@pytest.mark.parametrize(("available", "wanted", "expected"), [(100, 50, 50), (3, 50, 3), (3, 3, 3), (5, 1, 1)])
def test_at_most_num_samples_batches_run(available: int, wanted: int, expected: int):
    model = Recorder()
    run_calibration(model, [torch.randn(2, 3)] * available, num_samples=wanted, show_progress=False)
    assert len(model.calls) == expected


def test_150_batches_run_by_default():
    model = Recorder()
    run_calibration(model, [torch.randn(2, 3)] * 160, show_progress=False)
    assert len(model.calls) == 150


@pytest.mark.parametrize("show_progress", [True, False])
def test_no_item_more_is_drawn_than_runs_and_none_before_its_turn(show_progress: bool):  # noqa: FBT001
    model = Recorder()
    runs_before_each_draw = []

    def draw() -> Iterator[Tensor]:
        while True:
            runs_before_each_draw.append(len(model.calls))
            yield torch.randn(2, 3)

    run_calibration(model, draw(), num_samples=4, show_progress=show_progress)
    assert runs_before_each_draw == [0, 1, 2, 3]


def test_batches_are_let_go_when_they_have_run():
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    def draw() -> Iterator[Tensor]:
        nonlocal most
        for _ in range(10):
            most = max(most, sum(ref() is not None for ref in alive))
            x = torch.randn(2, 10)
            alive.append(weakref.ref(x))
            yield x
            del x

    run_calibration(two_layers(), draw(), {"0": MinMaxObserver()}, show_progress=False)
    assert most <= 2  # the first, which is kept to validate with, and the one that ran last


def test_feeding_tells_how_many_batches_ran_and_gives_the_first():
    batches = [Batch(args=(torch.randn(2, 10),)) for _ in range(5)]
    count, first = feed(two_layers(), iter(batches), {}, num_samples=3, show_progress=None, length=None)
    assert count == 3
    assert torch.equal(*first.args, *batches[0].args)


@pytest.mark.parametrize("num_samples", [0, -1])
def test_to_run_nothing_is_refused(num_samples: int):
    with pytest.raises(ConfigurationError, match=f"num_samples must be at least 1, got {num_samples}"):
        run_calibration(two_layers(), [torch.randn(2, 10)], num_samples=num_samples)


def test_the_model_runs_in_eval_mode_without_gradients():
    model = Recorder().train()
    run_calibration(model, [torch.randn(4, 3)] * 2)
    assert model.calls == [(False, False)] * 2


def test_the_model_is_left_as_it_was():
    model = Recorder().train()
    model.norm.eval()
    before = snapshot(model)
    run_calibration(model, [torch.randn(4, 3)] * 3, {"layer": MinMaxObserver()})
    assert snapshot(model) == before


@pytest.mark.parametrize("enabled", [True, False])
def test_the_callers_gradient_mode_is_left_as_it_was(enabled: bool):  # noqa: FBT001
    with torch.set_grad_enabled(enabled):
        run_calibration(two_layers(), [torch.randn(2, 10)])
        assert torch.is_grad_enabled() == enabled


def test_the_hooks_of_others_still_run_and_stay():
    model = two_layers()
    seen = []
    model[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    run_calibration(model, [torch.randn(2, 10)], {"0": MinMaxObserver()})
    assert seen == [(2, 10)]
    assert len(model[0]._forward_pre_hooks) == 1


def test_gradients_of_the_model_are_untouched():
    model = two_layers()
    model(torch.randn(2, 10)).sum().backward()
    before = [p.grad.clone() for p in model.parameters()]
    run_calibration(model, [torch.randn(2, 10)], {"0": MinMaxObserver()})
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before, strict=True))
    assert all(p.requires_grad for p in model.parameters())


class Doubling(nn.Module):
    """Writes into its inputs, but for the first call."""

    def __init__(self, *, from_call: int) -> None:
        super().__init__()
        self.calls, self.from_call = 0, from_call
        self.inner = nn.Identity()

    def forward(self, x: Tensor, *, more: list[Tensor]) -> Tensor:
        self.calls += 1
        if self.calls > self.from_call:
            x.mul_(2)
            more[0][0].zero_()
        return self.inner(x)


@pytest.mark.parametrize("from_call", [0, 1])
def test_the_callers_batches_are_as_they_were_when_the_model_writes_into_them(from_call: int):
    batches = [Batch((torch.ones(2, 3),), {"more": [torch.ones(2)]}) for _ in range(3)]
    observers = {"inner": MinMaxObserver()}
    count, first = feed(
        Doubling(from_call=from_call), iter(batches), observers, num_samples=9, show_progress=None, length=None
    )
    assert count == 3
    assert observers["inner"].max_val == 2
    for batch in (first, *batches):
        assert batch.args[0].unique().tolist() == batch.kwargs["more"][0].unique().tolist() == [1]


def test_the_callers_batch_is_as_it_was_when_the_model_fails_after_writing_into_it():
    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ArithmeticError(x.mul_(2))

    x = torch.ones(3)
    with pytest.raises(CalibrationError):
        run_calibration(Failing(), [x])
    assert x.tolist() == [1, 1, 1]


def test_the_first_batch_is_kept_as_it_was_when_a_generator_fills_one_tensor_again_and_again():
    def refilled() -> Iterator[Batch]:
        x = torch.zeros(2, 10)
        for number in range(3):
            yield Batch((x.fill_(number),))

    _, first = feed(two_layers(), refilled(), {}, num_samples=9, show_progress=None, length=None)
    assert not first.args[0].any()
