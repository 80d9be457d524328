"""Codes from layer to layer inside ``torch.compile``."""

import copy
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import torch
from compiled_graphs import operators_of
from deferring_nets import images
from fake_quantization import quantized, random_input
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch.nn import functional

from mono_quant import Quantizer
from mono_quant.core.tensors import CHANNELS_LAST
from mono_quant.modules.compiled import deferred_layer, int8_layer, layer_codes

Between = Callable[[Tensor], Tensor]

CODES = Counter({"int8_layer.codes": 1, "int8_layer": 1})
"""Of two layers the first gives codes."""
FLOATS = Counter({"int8_layer.deferred": 1, "int8_layer": 1})


@pytest.fixture(autouse=True)
def nothing_compiled_before() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Pair(nn.Module):
    """Two convolutions and what lies between, at a time with or without a further output."""

    def __init__(self, between: Between = functional.relu) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3)
        self.between = between
        self.also: Between | None = None

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.first(x)
        y = self.second(self.between(x))
        return y if self.also is None else (y, self.also(x))


def pair(between: Between = functional.relu, *, fuse: bool = True) -> nn.Module:
    quantizer = Quantizer(kernel="onednn", validators=(), show_progress=False, fuse=fuse)
    return quantizer.quantize(Pair(between).eval(), [images()]).model


class Recorded:
    """A model compiled as Inductor would be given it; our operators in the last graph."""

    def __init__(self, model: nn.Module, *, dynamic: bool | None = None) -> None:
        self.operators: Counter[str] = Counter()
        backend = aot_autograd(fw_compiler=self._compile)
        self._run = torch.compile(model, backend=backend, fullgraph=True, dynamic=dynamic)

    def __call__(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self._run(x)

    def _compile(self, graph: torch.fx.GraphModule, inputs: list[object]) -> torch.fx.GraphModule:
        del inputs
        self.operators = operators_of(graph.graph)
        return graph


FUSED: dict[str, Between] = {
    "nothing": lambda x: x,
    "relu": functional.relu,
    "relu in place": torch.relu_,
    "relu6": functional.relu6,
    "hardtanh in place": lambda x: functional.hardtanh(x, -0.5, 0.75, inplace=True),
    "dropout": lambda x: functional.dropout(functional.relu(x), training=False),
}


@pytest.mark.parametrize("between", FUSED.values(), ids=FUSED)
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_layer_gives_the_codes_that_the_next_one_takes(between: Between, *, dynamic: bool):
    model = pair(between)
    run = Recorded(model, dynamic=dynamic)
    for x in (images(7), images(8, 1), 1e6 * images(9, 3), -1e6 * images(9, 3)):
        with torch.no_grad():
            assert torch.equal(run(x), model(x))
        assert run.operators == CODES


UNFUSED: dict[str, Between] = {
    "two activations": lambda x: functional.relu6(functional.relu(x) - 0.1),
    "a write": lambda x: functional.relu(x).add_(0.1),
    "an activation upside down": lambda x: functional.relu(-x),
    "one end": lambda x: x.clamp(max=0.3),
    "ends that are tensors": lambda x: x.clamp(torch.zeros(()), torch.ones(())),
    "other elements": lambda x: functional.relu(x).flip(-1),
    "hardswish": functional.hardswish,
}


@pytest.mark.parametrize("between", UNFUSED.values(), ids=UNFUSED)
def test_anything_else_between_layers_is_computed_in_floats(between: Between):
    model, plain = pair(between), pair(between, fuse=False)
    run = Recorded(model)
    with torch.no_grad():
        assert torch.allclose(run(images(7)), plain(images(7)), atol=1e-5)
    assert "int8_layer.codes" not in run.operators


@pytest.mark.parametrize("also", [torch.neg, functional.relu, lambda x: x.sum()], ids=["before", "after", "a sum"])
def test_a_model_that_does_otherwise_than_when_it_was_watched_gets_floats_too(also: Between):
    model, plain = pair(), pair(fuse=False)
    run = Recorded(model)
    run(images())
    for one in (model, plain):
        one.also = also
    with torch.no_grad():
        for actual, expected in zip(run(images(7)), plain(images(7)), strict=True):
            assert torch.allclose(actual, expected, atol=1e-5)
    assert run.operators == CODES + Counter({"int8_layer.deferred": 1})


def test_where_floats_are_expected_too_the_layer_is_computed_once():
    model = pair(lambda x: functional.relu(x) + x)
    run = Recorded(model)
    run(images())
    assert run.operators == {"int8_layer": 2}


def test_an_empty_batch_has_an_empty_output():
    run = Recorded(pair())
    assert run(images()[:0]).shape == (0, 4, 14, 14)


def test_infinities_are_clamped_and_nan_stays_where_it_is():
    model = pair()
    run = Recorded(model)
    infinite, broken = images(7), images(7)
    infinite[0, 0, 0, :2] = torch.tensor([torch.inf, -torch.inf])
    broken[0, 0, 0, 0] = torch.nan  # whose code is any
    with torch.no_grad():
        assert torch.equal(run(infinite), model(infinite))
        assert torch.equal(run(broken)[..., 2:, 2:], model(broken)[..., 2:, 2:])


def test_other_numbers_in_the_layers_are_seen_at_the_next_call():
    model, other = pair(), pair()
    run = Recorded(model)
    run(images())
    with torch.no_grad():
        for layer in (other.first, other.second):
            layer.weight.copy_(-layer.weight)
            layer.bias.mul_(-3)
        other.second.input_scale.mul_(1.5)
        other.second.input_zero_point.add_(7)
    model.load_state_dict(other.state_dict())
    with torch.no_grad():
        assert torch.equal(run(images(7)), other(images(7)))
    assert run.operators == CODES
    model.second.input_scale = 2 * model.second.input_scale
    other.second.input_scale = 2 * other.second.input_scale
    with torch.no_grad():
        assert torch.equal(run(images(7)), other(images(7)))


def test_a_copy_is_a_model_of_its_own():
    model = pair()
    run = Recorded(model)
    before = run(images(7))
    copied = copy.deepcopy(model)
    copied.second.input_scale.mul_(3)
    with torch.no_grad():
        assert torch.equal(Recorded(copied)(images(7)), copied(images(7)))
    assert torch.equal(run(images(7)), before)


def test_an_exported_model_knows_nothing_of_it():
    exported = torch.export.export(pair(), (images(),))
    assert not operators_of(exported.graph)


@pytest.mark.parametrize("bits", [0, 255], ids=["lowest codes", "highest codes"])
@pytest.mark.parametrize("activation", [("", []), ("relu", []), ("hardtanh", [-0.5, 1.25]), ("silu", [])], ids=str)
@pytest.mark.parametrize("make", [lambda: nn.Conv1d(6, 9, 3), lambda: nn.Conv2d(6, 9, 3), lambda: nn.Conv3d(6, 9, 2)])
def test_codes_are_those_of_the_reference_or_their_neighbours(
    make: Callable[[], nn.Module], activation: tuple[str, list[float]], bits: int
):
    torch.manual_seed(0)
    module = quantized(make())
    x = random_input(module, 2, *[6] * (module.weight.ndim - 1))
    codes = torch.full(x.shape, bits, dtype=torch.uint8)
    codes[0] = torch.randint(0, 256, x.shape[1:])
    scale, zero_point = torch.tensor(0.02), torch.tensor(40, dtype=torch.int32)
    tensors = (module.weight, module.weight_scale, module.bias, module.input_scale, module.input_zero_point)
    name, arguments = activation
    given = layer_codes(codes, *tensors, scale, zero_point, module.kind, *module.geometry, name, arguments)

    centred = (codes.double() - module.input_zero_point) * module.input_scale.double()
    y = module.float_op(centred, module.dequantized().double(), module.bias.double())
    functions = {"": lambda y: y, "relu": functional.relu, "hardtanh": functional.hardtanh, "silu": functional.silu}
    expected = (functions[name](y, *arguments) / scale.double()).round().add(zero_point).clamp(0, 255)
    assert int((given - expected).abs().max()) <= 1
    assert given.is_contiguous(memory_format=CHANNELS_LAST.get(given.ndim, torch.contiguous_format))


def test_the_operators_are_what_torch_expects_of_them():
    module = quantized(nn.Conv2d(6, 9, 3))
    codes = torch.randint(0, 256, (2, 6, 5, 5), dtype=torch.uint8)
    tensors = (module.weight, module.weight_scale, module.bias, module.input_scale, module.input_zero_point)
    output = (torch.tensor(0.02), torch.tensor(40, dtype=torch.int32))
    torch.library.opcheck(layer_codes, (codes, *tensors, *output, module.kind, *module.geometry, "relu", []))
    torch.library.opcheck(deferred_layer, (codes, *tensors, module.kind, *module.geometry))
    assert torch.equal(
        deferred_layer(codes, *tensors, module.kind, *module.geometry),
        int8_layer(codes, *tensors, module.kind, *module.geometry),
    )
