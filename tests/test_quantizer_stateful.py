"""Models that write into themselves when they run: the user's model is as it was, and each run begins from there."""

import threading
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from small_models import FEATURES, mlp, norm, quantize, rows, run, tokens
from torch import Tensor, nn
from torch.nn import functional

from mono_quant.calibration import run_calibration
from mono_quant.calibration.runner import evaluating
from mono_quant.calibration.state import restoring
from mono_quant.core.observers import MinMaxObserver
from mono_quant.core.originals import Writes
from mono_quant.errors import CalibrationError
from mono_quant.io.checks import run_once
from mono_quant.io.validation import run_validators
from mono_quant.plugin_api import Batch, ValidationContext
from mono_quant.summary import measure_latency


class Renormalized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(16, FEATURES, max_norm=0.5)
        self.body = mlp()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.table(x))


class Stateful(nn.Module):
    """Counts, keeps statistics and a cache, all in its output."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("var", torch.ones(FEATURES))
        self.register_buffer("cache", torch.zeros(4, FEATURES), persistent=False)
        self.gain = nn.Parameter(torch.ones(FEATURES))
        self.plain = torch.zeros(FEATURES)
        self.calls = 0
        self.last = None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.calls += 1
        self.steps += 1
        self.cache[int(self.steps) % 4] = x.mean(0)
        functional.batch_norm(x, self.mean, self.var, training=True)
        self.mean = self.mean * 1.5
        self.gain.mul_(1.01)
        self.plain.add_(1)
        self.register_buffer("late", x.sum(0))
        self.last = self.body(x * self.gain) + self.cache.sum(0) + self.mean + self.plain + self.calls
        return self.last, self.cache, self.steps


class Failing(Stateful):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outputs = super().forward(x)
        if self.calls == 2:
            message = "planted"
            raise ArithmeticError(message)
        return outputs


def state(model: nn.Module) -> object:
    tensors = [*model.named_parameters(), *model.named_buffers()]
    attributes = [[(key, id(value)) for key, value in vars(module).items()] for module in model.modules()]
    return [(name, id(value), value.detach().numpy().tobytes()) for name, value in tensors], attributes


def stateful() -> tuple[nn.Module, list[Tensor]]:
    return Stateful(), rows()


def renormalized() -> tuple[nn.Module, list[Tensor]]:
    return Renormalized(), tokens()


@pytest.mark.parametrize("make", [stateful, renormalized])
def test_the_model_is_left_as_it_was_and_the_quantized_one_starts_from_there(
    make: Callable[[], tuple[nn.Module, list[Tensor]]],
):
    model, batches = make()
    before = state(model)
    result = quantize(model, batches)
    assert state(model) == before
    assert result.validation.load_test_passed
    for name, value in result.model.named_buffers():
        if name in dict(model.named_buffers()):
            assert torch.equal(value, model.get_buffer(name)), name
    if isinstance(model, Renormalized):
        assert torch.equal(result.model.table.weight, model.table.weight)
    else:
        assert torch.equal(result.model.gain, model.gain)
        assert (result.model.calls, result.model.last) == (0, None)
        assert not result.model.plain.any()


def test_both_models_are_compared_from_the_same_state():
    model, batches = stateful()
    assert quantize(model, batches).info.sqnr_db > 30


def test_calibration_goes_on_from_batch_to_batch_as_the_model_does_in_use():
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(1, 1)
            self.register_buffer("hidden", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.hidden += x.sum()
            return self.fc(self.hidden)

    observers = run_calibration(Recurrent(), [torch.ones(1)] * 3, {"fc": MinMaxObserver()})
    assert observers["fc"].max_val == 3


def test_an_error_in_the_middle_leaves_the_model_as_it_was():
    model = Failing()
    before = state(model)
    with pytest.raises(CalibrationError, match="planted"):
        quantize(model, rows())
    assert state(model) == before


def test_an_interrupt_in_the_middle_leaves_the_model_as_it_was():
    def interrupted() -> Iterator[Tensor]:
        yield rows()[0]
        raise KeyboardInterrupt

    model = Stateful()
    before = state(model)
    with pytest.raises(KeyboardInterrupt):
        quantize(model, interrupted())
    assert state(model) == before


def test_a_model_that_may_run_a_few_times_only_is_validated_and_timed():
    class Short(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = mlp()
            self.register_buffer("cache", torch.zeros(3, FEATURES))
            self.register_buffer("position", torch.zeros((), dtype=torch.int64))

        def forward(self, x: Tensor) -> Tensor:
            self.cache[self.position] = x[0]
            self.position += 1
            return self.body(x)

    assert quantize(Short(), rows(3)).info.quantized_latency_ms is not None


def test_a_validator_that_runs_the_models_leaves_them_as_they_were():
    seen = []

    class Running:
        def validate(self, context: ValidationContext) -> list[object]:
            with torch.no_grad():
                context.original(*context.batch.args)
                context.quantized(*context.batch.args)
            seen.append((int(context.original.steps), int(context.quantized.steps)))
            return []

    model, quantized = Stateful(), Stateful()
    context = ValidationContext(
        original=model, quantized=quantized, plan=None, batch=Batch((rows()[0],)), run=run_once,
        float_layer=lambda _: None, save=lambda _: None, load=lambda _: model,
    )  # fmt: skip
    run_validators([Running(), Running()], context)
    assert seen == [(1, 1), (1, 1)]
    assert not model.steps
    assert not quantized.steps


def test_timing_leaves_both_models_as_they_were():
    model, quantized = Stateful(), Stateful()
    before = state(model), state(quantized)
    measure_latency(model, quantized, Batch((rows()[0],)), budget_s=0.01)
    assert (state(model), state(quantized)) == before


def test_batch_norms_in_eval_mode_are_not_written_into():
    model = nn.Sequential(nn.Linear(FEATURES, 4), nn.ReLU(), norm(nn.BatchNorm1d(4)))
    before = [value._version for value in (*model.parameters(), *model.buffers())]
    quantize(model, rows())
    assert [value._version for value in (*model.parameters(), *model.buffers())] == before


def test_only_the_tensors_that_are_written_are_copied():
    model = Renormalized()
    with evaluating(model), restoring(model) as kept:
        with Writes(kept.originals):
            model(tokens()[0])
        assert [saved.numel() for _, saved in kept.originals._saved.values()] == [16 * FEATURES]


def test_a_write_in_another_thread_is_an_error_that_names_the_tensor():
    class Threaded(Stateful):
        def forward(self, x: Tensor) -> Tensor:
            thread = threading.Thread(target=lambda: self.steps.add_(1))
            thread.start()
            thread.join()
            return self.body(x)

    with pytest.raises(CalibrationError, match=r"Threaded.forward wrote into 'steps' where it could not be seen"):
        quantize(Threaded(), rows())


def test_a_lazy_layer_may_take_its_shape_while_the_model_runs():
    model = nn.Sequential(mlp(), nn.LazyLinear(3))
    result = quantize(model, rows())
    assert isinstance(model[1], nn.Linear)
    assert run(result.model, rows()[0]).shape == (6, 3)


def test_scripted_parts_are_left_as_they_were():
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("steps", torch.zeros(()))
            self.register_buffer("total", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.steps.add_(1)
            self.total = self.total + 1
            return x + self.steps + self.total

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.jit, which some versions of torch deprecate
        scripted = torch.jit.script(Counting())
    model = nn.Sequential(scripted, mlp())
    result = quantize(model, rows(), validators=("sqnr",))
    assert (float(scripted.steps), float(scripted.total)) == (0, 0)
    assert result.info.sqnr_db > 25
