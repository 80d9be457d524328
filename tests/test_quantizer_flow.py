"""Any Python in forward, any structure of inputs and outputs."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from small_models import FEATURES, mlp, norm, quantize, quantized_names, rows, run, sqnr
from torch import Tensor, nn

from mono_quant import Batch
from mono_quant.errors import CalibrationError

ENOUGH_DB = 25


class Pair(NamedTuple):
    a: Tensor
    b: Tensor


@dataclasses.dataclass
class Output:
    logits: Tensor
    steps: int


class Flow(nn.Module):
    """``body(flow, ...)`` is its forward."""

    def __init__(self, body: Callable[..., Any]) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, FEATURES)
        self.experts = nn.ModuleDict({"left": nn.Linear(FEATURES, FEATURES), "right": nn.Linear(FEATURES, FEATURES)})
        self.body = body

    def forward(self, *args: object, **kwargs: object):
        return self.body(self, *args, **kwargs)


def steps_by_data(flow: Flow, x: Tensor) -> Tensor:
    for _ in range(1 + int(x.sum().abs()) % 3):
        x = flow.first(x).tanh()
    return flow.experts["right" if x.sum() > 0 else "left"](flow.second(x))


def recursive(flow: Flow, x: Tensor, depth: int = 2) -> Tensor:
    return flow.second(x) if not depth else flow.first(recursive(flow, x, depth - 1))


def generators(flow: Flow, x: Tensor) -> Tensor:
    return sum(layer(x) for layer in reversed([flow.first, *flow.experts.values(), flow.second]))


def exceptions(flow: Flow, x: Tensor) -> Tensor:
    try:
        return flow.first(x[:, :3])
    except RuntimeError:
        return flow.second(flow.first(x))


@pytest.mark.parametrize("body", [steps_by_data, recursive, generators, exceptions], ids=lambda f: f.__name__)
def test_any_control_flow_is_quantized(body: Callable[..., Tensor]):
    torch.manual_seed(3)
    model, batches = Flow(body), [sign * batch for batch in rows(8) for sign in (1, -1)]
    used = {name for batch in batches for name in names_run(model, batch)}
    result = quantize(model, batches, exclude=sorted(set(names_of_linears(model)) - used))
    assert set(quantized_names(result.model)) == used
    for batch in batches:
        assert sqnr(run(model, batch), run(result.model, batch)) > ENOUGH_DB


def names_of_linears(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]


def names_run(model: nn.Module, batch: Tensor) -> set[str]:
    """The layers that ran to the end, by hooks of our own."""
    seen = set()
    modules = dict(model.named_modules())
    hooks = [modules[n].register_forward_hook(lambda *_, n=n: seen.add(n)) for n in names_of_linears(model)]
    run(model, batch)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize(
    ("body", "batch", "tensor"),
    [
        (lambda f, x: {"y": [f.second(f.first(x))]}, lambda x: x, lambda out: out["y"][0]),
        (lambda f, x: Pair(f.first(x), f.second(x)), lambda x: (x, torch.zeros(1)), lambda out: out.b),
        (lambda f, x: Output(f.second(f.first(x)), 2), lambda x: [x, "target"], lambda out: out.logits),
        (lambda f, x, *, y: f.first(x) + f.second(y), lambda x: {"x": x, "y": -x}, lambda out: out),
        (
            lambda f, x, n, *, extra: f.second(f.first(x) * n) + extra["bias"][0],
            lambda x: Batch((x, 2), {"extra": {"bias": [x]}}),
            lambda out: out,
        ),
        (lambda f, pair: f.first(pair.a) + f.second(pair.b), lambda x: Batch((Pair(x, -x),)), lambda out: out),
    ],
    ids=["dict output", "named tuple and target", "dataclass output", "mapping", "Batch", "named tuple input"],
)
def test_any_structure_of_inputs_and_outputs_is_quantized(
    body: Callable[..., Any], batch: Callable[[Tensor], Any], tensor: Callable[[Any], Tensor]
):
    model, inputs = Flow(body), rows()
    result = quantize(model, [batch(x) for x in inputs], include=["first", "second"])
    call = batch(inputs[0])
    if isinstance(call, dict):
        call = Batch(kwargs=call)
    call = call if isinstance(call, Batch) else Batch((inputs[0],))
    expected, actual = (tensor(run(m, *call.args, **call.kwargs)) for m in (model, result.model))
    assert result.info.selected_layers == ("first", "second")
    assert result.info.sqnr_db > ENOUGH_DB
    assert sqnr(expected, actual) > ENOUGH_DB


def test_a_layer_that_no_batch_reaches_is_an_error_that_names_it():
    with pytest.raises(CalibrationError, match=r"no calibration batch reached 'second'.*exclude=\['second'\]"):
        quantize(Flow(lambda f, x: f.first(x)), rows(), include=["first", "second"])


def test_a_transformer_encoder_in_eval_mode_keeps_giving_the_same_bits_before_a_quantized_head():
    layer = nn.TransformerEncoderLayer(FEATURES, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    model = nn.Sequential(encoder, nn.Linear(FEATURES, 4)).eval()
    batches = [torch.randn(2, 5, FEATURES) for _ in range(3)]
    result = quantize(model, batches, exclude=["0.*"])
    assert result.info.selected_layers == ("1",)
    assert torch.equal(run(model[0], batches[0]), run(result.model[0], batches[0]))
    assert sqnr(run(model, batches[0]), run(result.model, batches[0])) > ENOUGH_DB


def test_recurrent_layers_stay_in_float_and_work():
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.LSTM(FEATURES, 6, batch_first=True), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0][:, -1])

    model, batches = Recurrent(), [torch.randn(2, 5, FEATURES) for _ in range(3)]
    result = quantize(model, batches)
    assert result.info.skipped_layers == {"rnn": "int8-static does not quantize LSTM"}
    assert sqnr(run(model, batches[0]), run(result.model, batches[0])) > ENOUGH_DB


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_models_of_another_precision_keep_it_at_their_ends(dtype: torch.dtype):
    model = nn.Sequential(nn.Conv1d(2, 6, 3), norm(nn.BatchNorm1d(6)), nn.Flatten(), mlp_of(36)).to(dtype)
    batches = [torch.randn(3, 2, 8, dtype=dtype) for _ in range(3)]
    result = quantize(model, batches)
    output = run(result.model, batches[0])
    assert output.dtype == dtype
    assert result.info.folded_layers == {"1": "0"}
    assert sqnr(run(model, batches[0]), output) > ENOUGH_DB


def mlp_of(features: int) -> nn.Module:
    return nn.Sequential(nn.Linear(features, FEATURES), mlp())


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.Linear(5, 3), (4, 5)), (nn.Conv1d(5, 3, 2), (2, 5, 6)), (nn.Conv2d(4, 4, 3), (2, 4, 5, 5))],
    ids=["Linear", "Conv1d", "Conv2d"],
)
def test_a_model_that_is_one_layer_is_quantized(layer: nn.Module, shape: tuple[int, ...]):
    batches = [torch.randn(shape) for _ in range(3)]
    result = quantize(layer, batches)
    assert result.info.selected_layers == ("",)
    assert quantized_names(result.model) == [""]
    assert sqnr(run(layer, batches[0]), run(result.model, batches[0])) > ENOUGH_DB


def test_a_model_that_writes_into_its_input_is_judged_on_the_data_as_it_was():
    class Normalizing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(FEATURES, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.mul_(4))

    model, batches = Normalizing(), rows()
    drawn = [batch.clone() for batch in batches]
    result = quantize(model, batches)
    expected, actual = (run(m, batches[0].clone()) for m in (model, result.model))
    assert result.validation.load_test_passed
    assert result.info.sqnr_db == pytest.approx(sqnr(expected, actual), abs=0.1)
    assert result.info.sqnr_db > ENOUGH_DB
    assert all(map(torch.equal, batches, drawn))


def test_masked_outputs_that_are_infinite_in_both_models_do_not_count():
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(FEATURES, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x).masked_fill(torch.eye(6, 4).bool(), -torch.inf)

    assert ENOUGH_DB < quantize(Masked(), rows()).info.sqnr_db < 100


class Views(nn.Module):
    """A convolution whose output is flattened by `view`, which only one layout allows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8 * 6 * 6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.conv(x)).view(x.size(0), -1))


@pytest.mark.parametrize("kernel", ["reference", "onednn"])
def test_a_convolution_lays_its_output_out_like_the_float_one(kernel: str):
    model = Views().eval()
    quantized = quantize(model, [torch.randn(4, 3, 6, 6)], kernel=kernel).model
    for x in (torch.randn(4, 3, 6, 6), torch.randn(4, 3, 6, 6).to(memory_format=torch.channels_last)):
        assert quantized.conv(x).stride() == model.conv(x).stride()
