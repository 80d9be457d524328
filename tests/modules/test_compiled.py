"""The operator that quantized layers are inside ``torch.compile``."""

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest
import torch
from deferring_nets import NETS, images
from fake_quantization import assert_right, quantized, random_input
from torch import Tensor, nn

from mono_quant import Quantizer
from mono_quant.core.sqnr import sum_sqnr_db
from mono_quant.core.tensors import iter_tensors
from mono_quant.modules import QuantizedModule, compiled_engines, engine
from mono_quant.modules.compiled import int8_layer

Make = Callable[[], nn.Module]

LAYERS: dict[str, Make] = {
    "linear": lambda: nn.Linear(6, 9),
    "linear-without-bias": lambda: nn.Linear(6, 9, bias=False),
    "conv1d": lambda: nn.Conv1d(6, 9, 3, padding=1),
    "conv2d": lambda: nn.Conv2d(6, 9, 3, stride=2, groups=3),
    "one-by-one": lambda: nn.Conv2d(6, 1, 1),
    "column": lambda: nn.Conv2d(6, 9, (3, 1)),
    "conv3d": lambda: nn.Conv3d(6, 9, 2),
}
EVERY_LAYER = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


@pytest.fixture(autouse=True)
def nothing_compiled_before() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def pair(make: Make) -> tuple[nn.Module, QuantizedModule, Tensor]:
    torch.manual_seed(0)
    layer = make()
    module = quantized(layer)
    return layer, module, random_input(module, 2, *[6] * (layer.weight.ndim - 1))


@EVERY_LAYER
@pytest.mark.parametrize("dynamic", [False, True])
def test_it_gives_what_fake_quantization_gives_for_any_batch(make: Make, *, dynamic: bool):
    layer, module, x = pair(make)
    run = torch.compile(module, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    for one in (x, x[:1], torch.cat([x, x, x])):
        assert_right(module, layer, one, run=run)
        assert run(one).is_contiguous()


@EVERY_LAYER
def test_the_operator_is_what_torch_expects_of_one(make: Make):
    _, module, x = pair(make)
    codes = torch.randint(0, 256, x.shape, dtype=torch.uint8)
    layer = (module.weight, module.weight_scale, module.bias, module.input_scale, module.input_zero_point)
    torch.library.opcheck(int8_layer, (codes, *layer, module.kind, *module.geometry))


def test_weights_are_packed_once_and_again_when_they_change(monkeypatch: pytest.MonkeyPatch):
    layer, module, x = pair(LAYERS["linear"])
    packed, choose = [], engine.choose
    monkeypatch.setattr(engine, "choose", lambda op, *rest: packed.append(op) or choose(op, *rest))
    run = torch.compile(module, backend="aot_eager", fullgraph=True)
    for _ in range(3):
        run(x)
    assert len(packed) == 1
    module.weight.neg_()
    layer.weight.data.neg_()
    assert_right(module, layer, x, run=run)
    assert len(packed) == 2


def test_after_repack_it_follows_a_write_of_which_torch_does_not_tell():
    layer, module, x = pair(LAYERS["linear"])
    run = torch.compile(module, backend="aot_eager", fullgraph=True)
    run(x)
    for one in (module, layer):
        one.weight.data.neg_()
    module.repack()
    assert_right(module, layer, x, run=run)


COMPILABLE = ("Residual", "Chained", "BeforeAndAfter", "Aliased", "Gated", "SeveralOutputs", "Perceptron")
"""The others do what the compiler does not take, or takes for something else, in float models too."""


@pytest.mark.parametrize("net", COMPILABLE)
def test_a_whole_model_gives_what_it_gives_in_eager_mode(net: str):
    quantizer = Quantizer(kernel="onednn", validators=(), show_progress=False)
    model = quantizer.quantize(NETS[net]().eval(), [images()]).model
    run = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        expected, actual = (list(iter_tensors(way(images(7)))) for way in (model, run))
    assert [(x.shape, x.stride()) for x in expected] == [(y.shape, y.stride()) for y in actual]
    assert sum_sqnr_db(zip(expected, actual, strict=True)) > 70


@pytest.mark.parametrize("dynamic", [False, True])
def test_inputs_with_a_range_of_their_own_are_right_too(*, dynamic: bool):
    torch.manual_seed(0)
    layer = nn.Linear(6, 9)
    for options in ({}, {"activations": "per-token"}):
        scheme = {"name": "int8-dynamic", **options}
        model = Quantizer(scheme, validators=(), show_progress=False).quantize(nn.Sequential(layer)).model
        run = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=dynamic)
        for x in (torch.randn(2, 3, 6), torch.randn(5, 3, 6) * 100):
            assert sum_sqnr_db([(model(x), run(x))]) > 70
        torch.compiler.reset()


def test_layers_that_share_a_weight_do_not_mix():
    torch.manual_seed(0)
    one, other = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, stride=2, bias=False)
    other.weight = one.weight
    model = nn.Sequential(one, other).eval()
    quantized_model = Quantizer(validators=(), show_progress=False).quantize(model, [images()]).model
    run = torch.compile(quantized_model, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        assert sum_sqnr_db([(quantized_model(images(7)), run(images(7)))]) > 70


def test_a_weight_that_is_gone_takes_its_packed_form_along():
    _, module, x = pair(LAYERS["linear"])
    torch.compile(module, backend="aot_eager", fullgraph=True)(x)
    assert id(module.weight) in compiled_engines._of_weights
    weight = weakref.ref(module.weight)
    del module
    torch.compiler.reset()
    gc.collect()
    assert weight() is None
