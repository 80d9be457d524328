"""Linear layers and projections inside ``torch.compile`` whose inputs bring their own ranges."""

import copy
import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from compiled_graphs import Noted, operators_of
from fake_attention import Shapes, assert_right, attention, inputs, quantized
from torch import Tensor, nn

from mono_quant import Quantizer
from mono_quant.core.sqnr import sum_sqnr_db
from mono_quant.modules import QuantizedLinear, QuantizedMultiheadAttention, compiled_engines, engine
from mono_quant.modules.compiled import int8_layer

ACTIVATIONS = pytest.mark.parametrize("activations", ["per-tensor", "per-token"])
LAYERS: dict[str, dict[str, Any]] = {
    "packed": {},
    "packed-without-bias": {"bias": False, "batch_first": True},
    "separate": {"kdim": 5, "vdim": 3},
    "separate-without-bias": {"kdim": 8, "vdim": 3, "bias": False},
}
EVERY_LAYER = pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS)


@pytest.fixture(autouse=True)
def nothing_compiled_before() -> Iterator[None]:
    torch.compiler.reset()
    torch.manual_seed(0)
    yield
    torch.compiler.reset()


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the weights that were packed."""
    shapes: list[tuple[int, ...]] = []
    choose = engine.choose
    monkeypatch.setattr(engine, "choose", lambda op, *rest: shapes.append(tuple(op.weight.shape)) or choose(op, *rest))
    return shapes


def dynamic_linear(activations: str) -> QuantizedLinear:
    scheme = {"name": "int8-dynamic", "activations": activations}
    return Quantizer(scheme, validators=(), show_progress=False).quantize(nn.Sequential(nn.Linear(37, 11))).model[0]


def is_near(actual: Tensor, expected: Tensor) -> bool:
    """Equal but for a few roundings: the exact sum is that of the same codes."""
    return sum_sqnr_db([(expected.detach(), actual.detach())]) > 120


@ACTIVATIONS
@EVERY_LAYER
@pytest.mark.parametrize("dynamic", [False, True])
def test_attention_gives_what_torch_gives_of_fake_quantized_projections(
    options: dict[str, Any], activations: str, *, dynamic: bool
):
    layer = attention(**options)
    module = quantized(layer, activations=activations)
    module.compile(backend="aot_eager", fullgraph=True, dynamic=dynamic)
    kinds = ("self", "memory", "three") if module._qkv_same_embed_dim else ("three",)
    for kind in kinds:
        for n in (2, 3):
            shapes = Shapes(n=n, l=5, s=5 if kind == "self" else 4)
            assert_right(module, layer, inputs(layer, shapes, kind, per_token=activations == "per-token"))


@ACTIVATIONS
def test_each_projection_is_one_operator(activations: str):
    module = quantized(attention(), activations=activations)
    run = Noted(module)
    x, y = torch.randn(5, 2, 8), torch.randn(4, 2, 8)
    for call, expected in (((x, x, x), 2), ((x, y, y), 3), ((x, y, y.clone()), 4)):
        run(*call)
        assert run.operators == {"int8_layer": expected}


@ACTIVATIONS
def test_linear_is_one_operator_for_any_batch(activations: str):
    module = dynamic_linear(activations)
    run = Noted(module, dynamic=True)
    run(torch.randn(2, 37))
    before = run.graphs
    for rows in (2, 5, 300):
        x = torch.randn(rows, 37)
        assert is_near(run(x), module(x))
    assert run.operators == {"int8_layer": 1}
    assert run.graphs == before
    assert run(torch.empty(0, 37)).shape == (0, 11)


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16, torch.float64], ids=str)
def test_the_output_has_the_dtype_of_the_input(dtype: torch.dtype):
    module, x = dynamic_linear("per-token"), torch.randn(4, 37, dtype=dtype)
    y = Noted(module)(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y, module(x))  # the default of torch: some roundings to this dtype


@ACTIVATIONS
def test_each_part_of_a_weight_is_packed_once(activations: str, packed: list[tuple[int, ...]]):
    module = quantized(attention(), activations=activations)
    run, x, y = Noted(module), torch.randn(5, 2, 8), torch.randn(5, 2, 8)
    for _ in range(3):
        run(x, x, x)
    assert packed == [(24, 8), (8, 8)]
    for _ in range(3):
        run(x, y, y)
    assert sorted(packed[2:]) == [(8, 8), (16, 8)]


@ACTIVATIONS
def test_a_weight_that_was_written_into_is_packed_anew(activations: str, packed: list[tuple[int, ...]]):
    layer = attention()
    module = quantized(layer, activations=activations)
    module.compile(backend="aot_eager", fullgraph=True)
    qkv = inputs(layer, Shapes(), "self", per_token=activations == "per-token")
    assert_right(module, layer, qkv)
    before = len(packed)
    module.in_proj_weight.neg_()
    module.in_proj_weight_scale.mul_(1.5)
    assert_right(module, layer, qkv)
    assert packed[before:] == [(24, 8)]
    module.in_proj_weight.data.neg_()
    module.repack()
    assert_right(module, layer, qkv)


def test_a_deep_copy_has_its_own():
    module = dynamic_linear("per-token")
    run, x = Noted(module), torch.randn(4, 37)
    before = run(x)
    other = copy.deepcopy(module)
    other.weight.neg_()
    assert is_near(Noted(other)(x), other(x))
    assert torch.equal(run(x), before)


def test_threads_share_what_was_compiled():
    module = quantized(attention(), activations="per-token")
    run = Noted(module)
    batches = [torch.randn(5, 2, 8) for _ in range(8)]
    expected = [module(x, x, x)[0] for x in batches]
    with torch.no_grad():
        run(batches[0], batches[0], batches[0])  # threads that all had to compile would be beyond torch's limit
    given: dict[int, Tensor] = {}

    def work(number: int) -> None:
        with torch.no_grad():
            for _ in range(5):
                given[number] = run(*[batches[number]] * 3)[0]

    module.repack()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(is_near(given[number], one) for number, one in enumerate(expected))


@pytest.mark.parametrize("kernel", ["reference", "auto"])
def test_a_weight_that_is_gone_takes_its_packed_form_along(kernel: str, monkeypatch: pytest.MonkeyPatch):
    if kernel == "reference":  # it keeps the weight itself
        monkeypatch.setattr("mono_quant.modules.compiled._KERNELS", engine.REFERENCE_ONLY)
    module = quantized(attention())
    x = torch.randn(5, 2, 8)
    Noted(module)(x, x, x)
    assert id(module.in_proj_weight) in compiled_engines._of_weights
    weights = [weakref.ref(module.in_proj_weight), weakref.ref(module.out_proj.weight)]
    del module
    torch.compiler.reset()
    gc.collect()
    assert [weight() for weight in weights] == [None, None]


@ACTIVATIONS
def test_exported_they_are_plain_operations(activations: str):
    module: QuantizedMultiheadAttention = quantized(attention(), activations=activations)
    x = torch.randn(5, 2, 8)
    assert not operators_of(torch.export.export(module, (x, x, x)).graph)
    assert not operators_of(torch.export.export(dynamic_linear(activations), (torch.randn(4, 37),)).graph)


@pytest.mark.parametrize("rows", [None, (8, 24)])
def test_the_operator_is_what_torch_expects_of_one(rows: tuple[int, int] | None):
    module = quantized(attention())
    layer = (module.in_proj_weight, module.in_proj_weight_scale, module.in_proj_bias, None, None)
    for x in (torch.randn(5, 8), torch.randint(0, 256, (5, 8), dtype=torch.uint8)):
        torch.library.opcheck(int8_layer, (x, *layer, "linear", [], [], [], 1, rows))


def test_the_operator_computes_with_some_rows_of_all_that_it_is_given():
    weight, scale = torch.randint(-127, 128, (24, 8), dtype=torch.int8), torch.rand(24)
    bias, codes = torch.randn(24), torch.randint(0, 256, (5, 8), dtype=torch.uint8)
    y = int8_layer(codes, weight, scale, bias, None, None, "linear", [], [], [], 1, (8, 24))
    sums = (codes.long() - 128) @ weight[8:].long().T
    right = sums.double() * scale[8:].double() + bias[8:].double()
    torch.testing.assert_close(y.double(), right, rtol=2**-22, atol=2**-22)
