"""The operator that linear layers with weights stored as codes are inside ``torch.compile``."""

import copy
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from compiled_graphs import Noted, operators_of
from torch import Tensor, nn
from torch.nn import functional

from mono_quant import Quantizer
from mono_quant.core.encoding import decode, encode
from mono_quant.core.qtypes import FLOAT8_E4M3
from mono_quant.core.tensor_spec import WeightSpec
from mono_quant.core.tensors import same_bits
from mono_quant.kernels.float_cache import FLOAT_CACHE
from mono_quant.kernels.select import supports
from mono_quant.modules import LinearByKernel, as_weight_only, compiled_engines, engine
from mono_quant.modules.compiled_weight_only import _KERNELS, weight_only_linear
from mono_quant.testing.adversarial import WEIGHT_STORAGE
from mono_quant.testing.distance import weight_only_bound

CPU = torch.device("cpu")
FEATURES, CHANNELS = 128, 32
SUITE = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
"""What torch asks of an operator; the first of them compares in arithmetic that it does not have for float8."""
EVERY_STORAGE = pytest.mark.parametrize("stored", WEIGHT_STORAGE.values(), ids=WEIGHT_STORAGE)
SOME_STORAGE = pytest.mark.parametrize("stored", [WEIGHT_STORAGE[name] for name in ("int8", "int4-asymmetric")])
EVERY_KERNEL = pytest.mark.parametrize("kernel", _KERNELS)


@pytest.fixture(autouse=True)
def nothing_compiled_before() -> Iterator[None]:
    torch.compiler.reset()
    torch.manual_seed(0)
    with torch.no_grad():
        yield
    torch.compiler.reset()


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels that were chosen."""
    names: list[str] = []
    choose = engine.choose

    def noting(*args: Any) -> Any:  # noqa: ANN401
        chosen = choose(*args)
        names.append(chosen[0])
        return chosen

    monkeypatch.setattr(engine, "choose", noting)
    return names


def linear(stored: dict[str, object], kernel: str = "reference", *, bias: bool = True) -> LinearByKernel:
    """A frozen layer that asks for a kernel."""
    layer = nn.Linear(FEATURES, CHANNELS, bias=bias).requires_grad_(requires_grad=False)
    spec = WeightSpec(shape=layer.weight.shape, **stored)
    module = as_weight_only(layer, {"weight": spec}, {"weight": encode(layer.weight, spec)}, LinearByKernel)
    assert isinstance(module, LinearByKernel)
    module.use_kernels(tuple(_KERNELS.items()), kernel)
    return module


def arguments(module: LinearByKernel, kernel: str) -> tuple[object, ...]:
    """Those of the operator, but for the input."""
    spec, stored = module.weight_specs["weight"], module.stored("weight")
    tensors = (stored[""], stored.get("_scale"), stored.get("_zero_point"), module.bias)
    return *tensors, spec.dtype.name, str(spec.granularity), spec.shape, list(_KERNELS), kernel


def assert_right(module: LinearByKernel, x: Tensor, y: Tensor, kernel: str = "reference") -> None:
    """The product with the weight that the codes stand for, in float64, to what the kernel rounds."""
    op = module.op()
    exact = functional.linear(x.double(), op.weight().double(), None if op.bias is None else op.bias.double())
    assert (y.dtype, y.shape) == (x.dtype, exact.shape)
    bound = weight_only_bound(_KERNELS[kernel], op, x.reshape(-1, FEATURES)).reshape(exact.shape)
    assert bool(((y - exact).abs() <= bound).all())


@EVERY_KERNEL
@EVERY_STORAGE
@pytest.mark.parametrize("bias", [True, False])
def test_with_every_kernel_it_gives_the_product_with_the_float_weight(
    kernel: str, stored: dict[str, object], packed: list[str], *, bias: bool
):
    module = linear(stored, kernel, bias=bias)
    if not supports(_KERNELS[kernel], module.op(), CPU):
        return
    for shape in ((5,), (1,), (2, 3), (0,), ()):
        x = torch.randn(*shape, FEATURES)
        assert_right(module, x, weight_only_linear(x, *arguments(module, kernel)), kernel)
    assert set(packed) == {kernel}


@EVERY_STORAGE
@pytest.mark.parametrize("dynamic", [None, True])
def test_compiled_it_gives_what_the_kernel_gives_in_eager_mode(stored: dict[str, object], *, dynamic: bool | None):
    module = linear(stored)
    run = Noted(module, dynamic=dynamic)
    for rows in (5, 2, 300):
        x = torch.randn(rows, FEATURES)
        assert same_bits(run(x), module(x))
        assert_right(module, x, run(x))
    assert run.operators == {"weight_only_linear": 1}
    assert run.graphs == (1 if dynamic else 2)


@SOME_STORAGE
def test_any_number_of_axes_is_right(stored: dict[str, object]):
    module = linear(stored)
    run = Noted(module)
    for shape in ((2, 3), (), (0,), (1, 1, 4), (2, 0, 3)):
        x = torch.randn(*shape, FEATURES)
        assert_right(module, x, run(x))
    with pytest.raises(RuntimeError, match=r"same reduction dim|cannot be multiplied"):
        run(torch.randn(3, FEATURES + 1))


def test_it_has_every_built_in_kernel_of_such_layers():
    quantizer = Quantizer("int8-weight-only", validators=(), show_progress=False)
    kernels = quantizer.quantize(nn.Sequential(nn.Linear(FEATURES, CHANNELS))).model[0].engine.kernels
    ops = [linear(stored).op() for stored in WEIGHT_STORAGE.values()]
    assert {name: type(kernel) for name, kernel in _KERNELS.items()} == {
        name: type(kernel) for name, kernel in kernels if any(kernel.supports(op, CPU) for op in ops)
    }


def test_the_kernel_that_was_asked_for_runs(packed: list[str]):
    module = linear(WEIGHT_STORAGE["int8"])
    run, x = Noted(module), torch.randn(4, FEATURES)
    for name in ("dequantize", "int8pack", "reference"):
        module.use_kernels(tuple(_KERNELS.items()), name)
        run(x)
    assert packed == ["dequantize", "int8pack", "reference"]


def test_no_kernel_runs_that_the_layer_was_not_given(packed: list[str]):
    module = linear(WEIGHT_STORAGE["int8"])
    module.use_kernels((("dequantize", _KERNELS["dequantize"]), ("reference", _KERNELS["reference"])))
    Noted(module)(torch.randn(4, FEATURES))
    assert packed == ["dequantize"]


@SOME_STORAGE
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_inputs_of_half_precision_give_what_they_give_in_eager_mode(stored: dict[str, object], dtype: torch.dtype):
    module = linear(stored).to(dtype)
    run, x = Noted(module), torch.randn(4, FEATURES, dtype=dtype)
    assert same_bits(run(x), module(x))
    assert run.operators == {"weight_only_linear": 1}


@SOME_STORAGE
def test_weights_are_packed_once_and_again_when_they_change(stored: dict[str, object], packed: list[str]):
    module = linear(stored)
    run, x = Noted(module), torch.randn(4, FEATURES)

    def times_packed() -> int:
        before = len(packed)
        for _ in range(3):
            assert_right(module, x, run(x))
        return len(packed) - before

    assert times_packed() == 1
    for name in ("weight", "weight_scale", "bias"):
        module._tensor(name).copy_(module._tensor(name).flip(0))
        assert times_packed() == 1
    module.load_state_dict(linear(stored).state_dict())
    assert times_packed() == 1
    module._tensor("weight").data.copy_(module._tensor("weight").flip(0))
    module.repack()
    assert times_packed() == 1


@SOME_STORAGE
def test_a_deep_copy_has_its_own(stored: dict[str, object]):
    module = linear(stored)
    run, x = Noted(module), torch.randn(4, FEATURES)
    before = run(x)
    other = copy.deepcopy(module)
    other._tensor("weight").copy_(other._tensor("weight").flip(0))
    assert_right(other, x, Noted(other)(x))
    assert same_bits(run(x), before)


def test_layers_that_share_codes_do_not_mix():
    one, other = linear(WEIGHT_STORAGE["int8"]), linear(WEIGHT_STORAGE["int8"], bias=False)
    other._buffers["weight"] = one._buffers["weight"]

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = one, other

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.one(x), self.other(x)

    run, x = Noted(Both()), torch.randn(4, FEATURES)
    for _ in range(2):
        for module, y in zip((one, other), run(x), strict=True):
            assert_right(module, x, y)


def test_threads_share_what_was_compiled():
    module = linear(WEIGHT_STORAGE["int8"])
    run = Noted(module)
    batches = [torch.randn(4, FEATURES) for _ in range(8)]
    run(batches[0])  # threads that all had to compile would be beyond torch's limit
    module.repack()
    given: dict[int, Tensor] = {}

    def work(number: int) -> None:
        with torch.no_grad():
            for _ in range(5):
                given[number] = run(batches[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, x in enumerate(batches):
        assert_right(module, x, given[number])


@EVERY_KERNEL
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_weight_that_is_gone_takes_all_that_was_made_of_it_along(kernel: str, mode: Callable[[], Any]):
    gc.collect()  # what other tests left
    before = FLOAT_CACHE.nbytes
    module = linear(WEIGHT_STORAGE["int8"], kernel)
    with mode():
        Noted(module)(torch.randn(4, FEATURES))
    assert id(module._buffers["weight"]) in compiled_engines._of_weights
    weight = weakref.ref(module._buffers["weight"])
    del module
    torch.compiler.reset()
    gc.collect()
    assert weight() is None
    assert FLOAT_CACHE.nbytes == before


@torch.enable_grad()
@SOME_STORAGE
@pytest.mark.parametrize("of", ["input", "bias", "scale"])
def test_where_gradients_are_asked_for_they_flow(stored: dict[str, object], of: str):
    module = linear(stored)
    run, x = Noted(module), torch.randn(4, FEATURES)
    tensor = {"input": x, "bias": module.bias, "scale": module.weight_scale}[of].requires_grad_()
    y = run(x)
    assert not run.operators
    (gradient,) = torch.autograd.grad(y.square().sum(), [tensor])
    weight = decode(module.stored("weight"), module.weight_specs["weight"], at_once=True)
    (right,) = torch.autograd.grad(functional.linear(x, weight, module.bias).square().sum(), [tensor])
    torch.testing.assert_close(gradient, right)
    with torch.no_grad():
        run(x)
    assert run.operators


@torch.enable_grad()
def test_transforms_look_into_the_layer_as_in_eager_mode():
    module, x = linear(WEIGHT_STORAGE["int8"]), torch.randn(4, FEATURES)

    def of_input(x: Tensor) -> Tensor:
        return module(x).square().sum()

    def of_scale(scale: Tensor) -> Tensor:
        return torch.func.functional_call(module, {"weight_scale": scale}, (x,))

    scales = torch.stack([module.weight_scale, 2 * module.weight_scale])
    for function, argument in ((torch.func.grad(of_input), x), (torch.vmap(of_scale), scales)):
        run = torch.compile(function, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(run(argument), function(argument))


def test_under_autocast_and_for_other_inputs_the_float_layer_runs():
    module = linear(WEIGHT_STORAGE["int8"])
    run, x = Noted(module), torch.randn(4, FEATURES)
    weight = decode(module.stored("weight"), module.weight_specs["weight"])
    with torch.autocast("cpu"):
        assert same_bits(run(x), functional.linear(x, weight, module.bias))
    assert not run.operators
    module = module.double()
    run, x = Noted(module), x.double()
    assert same_bits(run(x), functional.linear(x, weight.double(), module.bias))
    assert not run.operators


@SOME_STORAGE
def test_exported_it_is_plain_operations(stored: dict[str, object]):
    assert not operators_of(torch.export.export(linear(stored), (torch.randn(4, FEATURES),)).graph)


@EVERY_STORAGE
@pytest.mark.parametrize("bias", [True, False])
def test_the_operator_is_what_torch_expects_of_one(stored: dict[str, object], *, bias: bool):
    module = linear(stored, bias=bias)
    utilities = [one for one in SUITE if one != "test_schema" or module.weight_specs["weight"].dtype != FLOAT8_E4M3]
    for shape in ((5,), (2, 3)):
        call = (torch.randn(*shape, FEATURES), *arguments(module, "reference"))
        torch.library.opcheck(weight_only_linear, call, test_utils=utilities)
