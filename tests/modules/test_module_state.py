"""What a quantized module is made of, and that its packed weights always follow its tensors."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from fake_quantization import assert_right, quantized, random_input
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from mono_quant import Quantizer
from mono_quant.modules import QuantizedModule

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(6, 9),
    "conv1d": lambda: nn.Conv1d(6, 9, 3),
    "conv2d": lambda: nn.Conv2d(6, 9, 3),
    "conv3d": lambda: nn.Conv3d(6, 9, 3),
}
EVERY_LAYER = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
EVERY_TENSOR = pytest.mark.parametrize("name", ["weight", "weight_scale", "input_scale", "input_zero_point", "bias"])
EVERY_KERNEL = pytest.mark.parametrize("kernel", ["reference", "fbgemm", "onednn", "auto"])


Pair = tuple[nn.Module, QuantizedModule, Tensor]


def pair(make: Callable[[], nn.Module], kernel: str = "auto", seed: int = 0) -> Pair:
    """A float layer, its quantized form, which ran already and so has packed its weights, and an input."""
    torch.manual_seed(seed)
    layer = make()
    module = quantized(layer, kernel=kernel)
    x = random_input(module, 2, layer.weight.shape[1], *[6] * (layer.weight.ndim - 2))
    module(x)
    assert module.engine.chosen
    return layer, module, x


def cast_back(module: nn.Module) -> nn.Module:
    return module.half().to(torch.float64).bfloat16().float()


def pickled(module: nn.Module) -> nn.Module:
    loaded: nn.Module = pickle.loads(pickle.dumps(module))  # noqa: S301 - our own bytes
    return loaded


def saved_and_loaded(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    loaded: nn.Module = torch.load(file, weights_only=False)
    return loaded


def another(module: QuantizedModule, name: str) -> Tensor:
    """Other values for a tensor of the module."""
    tensor = getattr(module, name).detach()
    return tensor * 2 if name.startswith("input") else tensor.flip(0)


def written_into(module: QuantizedModule, name: str, values: Tensor) -> None:
    with torch.no_grad():
        getattr(module, name).copy_(values)


def replaced(module: QuantizedModule, name: str, values: Tensor) -> None:
    is_parameter = name in dict(module.named_parameters())
    setattr(module, name, nn.Parameter(values, requires_grad=False) if is_parameter else values)


def replaced_by_torch(module: QuantizedModule, name: str, values: Tensor) -> None:
    module.load_state_dict(module.state_dict() | {name: values}, assign=True)


@EVERY_LAYER
def test_its_state_is_five_plain_tensors(make: Callable[[], nn.Module]):
    layer, module, _ = pair(make)
    state = module.state_dict()
    assert {name: (type(t), t.dtype, t.shape) for name, t in state.items()} == {
        "weight": (Tensor, torch.int8, layer.weight.shape),
        "weight_scale": (Tensor, torch.float32, (9,)),
        "input_scale": (Tensor, torch.float32, ()),
        "input_zero_point": (Tensor, torch.int32, ()),
        "bias": (Tensor, torch.float32, (9,)),
    }


@EVERY_LAYER
def test_the_floats_that_follow_from_the_weights_are_frozen_parameters_and_all_else_buffers(
    make: Callable[[], nn.Module],
):
    _, module, _ = pair(make)
    assert {name: parameter.requires_grad for name, parameter in module.named_parameters()} == {
        "weight_scale": False,
        "bias": False,
    }
    assert {name for name, _ in module.named_buffers()} == {"weight", "input_scale", "input_zero_point"}


@EVERY_LAYER
@pytest.mark.parametrize("bias", [True, False])
def test_its_first_parameter_tells_its_device_and_a_float_dtype(make: Callable[[], nn.Module], *, bias: bool):
    layer = make()
    layer.bias = layer.bias if bias else None
    for device in ("cpu", "meta"):
        first = next(quantized(layer).to(device).parameters())
        assert (first.device.type, first.dtype) == (device, torch.float32)


def test_without_a_bias_there_is_none_in_the_state():
    _, module, _ = pair(lambda: nn.Linear(6, 9, bias=False))
    assert set(module.state_dict()) == {"weight", "weight_scale", "input_scale", "input_zero_point"}


@pytest.mark.parametrize("is_training", [True, False])
def test_it_is_in_the_mode_of_the_float_layer(*, is_training: bool):
    assert quantized(nn.Linear(6, 9).train(is_training)).training == is_training


@EVERY_LAYER
@pytest.mark.parametrize("dtype", [torch.half, torch.float64], ids=str)
def test_kernels_are_given_float32_numbers_whatever_the_layer_had(make: Callable[[], nn.Module], dtype: torch.dtype):
    op = quantized(make().to(dtype)).op()
    assert op.bias is not None
    assert (op.weight_scale.dtype, op.bias.dtype) == (torch.float32, torch.float32)


def test_its_bias_is_not_that_of_the_float_layer():
    layer, module, _ = pair(LAYERS["linear"])
    assert module.bias.data_ptr() != layer.bias.data_ptr()


@EVERY_LAYER
@EVERY_KERNEL
@pytest.mark.parametrize(
    "again",
    [
        copy.deepcopy,
        pickled,
        saved_and_loaded,
        cast_back,
        lambda module: module.to("cpu", torch.half),
        lambda module: module.share_memory(),
        lambda module: module.requires_grad_().train().eval(),
    ],
    ids=["deepcopy", "pickle", "torch.save", "casts", "to", "share_memory", "flags"],
)
def test_it_is_the_same_after(again: Callable[[nn.Module], nn.Module], make: Callable[[], nn.Module], kernel: str):
    layer, module, x = pair(make, kernel)
    before, state = module(x), {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module = again(module)
    after = module.state_dict()
    assert list(after) == list(state)
    assert all(after[name].dtype == state[name].dtype and torch.equal(after[name], state[name]) for name in state)
    assert_right(module, layer, x)
    if kernel != "auto":
        assert torch.equal(module(x), before)


@EVERY_LAYER
@EVERY_KERNEL
@pytest.mark.parametrize("assign", [True, False])
def test_it_computes_with_a_state_loaded_into_it(make: Callable[[], nn.Module], kernel: str, *, assign: bool):
    _, module, _ = pair(make, kernel)
    other_layer, other, x = pair(make, kernel, seed=1)
    module.load_state_dict(other.state_dict(), assign=assign)
    assert_right(module, other_layer, x)
    assert (module.weight.data_ptr() == other.weight.data_ptr()) == assign


@EVERY_LAYER
def test_a_state_can_be_loaded_into_a_module_without_tensors(make: Callable[[], nn.Module]):
    layer, module, x = pair(make)
    empty = copy.deepcopy(module).to("meta")
    empty.load_state_dict(module.state_dict(), assign=True)
    assert_right(empty, layer, x)


def test_a_state_inside_a_model_is_followed_too():
    _, module, x = pair(LAYERS["linear"])
    other_layer, other, _ = pair(LAYERS["linear"], seed=1)
    model, state = nn.Sequential(nn.Sequential(module)), nn.Sequential(nn.Sequential(other)).state_dict()
    model.load_state_dict(state)
    assert_right(module, other_layer, x, run=model)


def test_a_copy_has_the_kernels_to_choose_from_and_nothing_packed():
    _, module, _ = pair(LAYERS["linear"], "onednn")
    for again in (copy.deepcopy(module), pickled(module)):
        assert again.engine.chosen == ()
        assert [name for name, _ in again.engine.kernels] == ["reference", "fbgemm", "onednn"]
        assert again.engine.wanted == "onednn"


@pytest.mark.parametrize(
    "move", [nn.Module.cpu, nn.Module.half, nn.Module.share_memory, lambda m: nn.Sequential(m).double()]
)
def test_moving_drops_what_was_packed(move: Callable[[nn.Module], nn.Module]):
    _, module, _ = pair(LAYERS["linear"])
    move(module)
    assert module.engine.chosen == ()


def test_a_copy_is_independent():
    layer, module, x = pair(LAYERS["linear"])
    again = copy.deepcopy(module)
    again.weight.zero_()
    again(x)
    assert_right(module, layer, x)
    assert torch.equal(again(x), module.bias.expand(2, 9))


def test_a_pickle_is_no_larger_than_its_tensors_and_a_little():
    _, module, _ = pair(lambda: nn.Linear(500, 300))
    assert len(pickle.dumps(module)) < 300 * 500 + 300 * 8 + 5000


@EVERY_LAYER
@EVERY_KERNEL
@EVERY_TENSOR
@pytest.mark.parametrize("edit", [written_into, replaced, replaced_by_torch])
def test_it_follows_an_edit_by_hand(
    edit: Callable[[QuantizedModule, str, Tensor], None], make: Callable[[], nn.Module], kernel: str, name: str
):
    layer, module, x = pair(make, kernel)
    edit(module, name, another(module, name))
    if name == "bias":
        layer.bias.data.copy_(module.bias)
    assert_right(module, layer, x)


@EVERY_LAYER
@EVERY_KERNEL
@EVERY_TENSOR
def test_functional_call_computes_with_the_tensors_that_it_is_given(
    make: Callable[[], nn.Module], kernel: str, name: str
):
    layer, module, x = pair(make, kernel)
    before, given = module(x), another(module, name)
    edited = copy.deepcopy(module)
    written_into(edited, name, given)
    edited_layer = copy.deepcopy(layer)
    if name == "bias":
        edited_layer.bias.data.copy_(given)
    assert_right(edited, edited_layer, x, run=lambda x: functional_call(module, {name: given}, x))
    assert torch.equal(module(x), before) or kernel == "auto"
    assert_right(module, layer, x)


@EVERY_LAYER
@EVERY_KERNEL
def test_functional_call_runs_a_model_with_the_state_of_another(make: Callable[[], nn.Module], kernel: str):
    layer, module, x = pair(make, kernel)
    other_layer, other, _ = pair(make, kernel, seed=1)
    model, state = nn.Sequential(module), nn.Sequential(other).state_dict()
    assert_right(other, other_layer, x, run=lambda x: functional_call(model, state, x))
    assert_right(module, layer, x)


def test_a_stacked_state_runs_a_layer_for_each_model():
    pairs = [pair(LAYERS["linear"], seed=seed) for seed in range(3)]
    parameters, buffers = stack_module_state([module for _, module, _ in pairs])
    for index, (layer, module, x) in enumerate(pairs):
        own = {name: tensor[index] for name, tensor in (parameters | buffers).items()}
        assert_right(module, layer, x, run=lambda x, own=own: functional_call(pairs[0][1], own, x))


def test_half_of_the_model_leaves_the_numbers_their_types():
    _, module, x = pair(LAYERS["linear"])
    model = nn.Sequential(module, nn.Linear(9, 2)).half()
    assert model[1].weight.dtype == torch.half
    assert module.weight_scale.dtype == torch.float32
    assert model(x.half()).dtype == torch.half


@EVERY_LAYER
def test_an_input_that_requires_grad_gets_a_result_without(make: Callable[[], nn.Module]):
    layer, module, x = pair(make)
    y = module(x.clone().requires_grad_())
    assert not y.requires_grad
    assert_right(module, layer, x, run=lambda _: y)


@EVERY_LAYER
@EVERY_KERNEL
def test_first_calls_in_inference_mode_and_out_of_it_give_the_same(make: Callable[[], nn.Module], kernel: str):
    layer, module, x = pair(make, kernel)
    module.repack()
    with torch.inference_mode():
        inside = module(x)
    outside = module(x.clone().requires_grad_())
    assert torch.equal(inside, outside)
    assert_right(module, layer, x)


@EVERY_LAYER
def test_float_weights_are_refused_and_not_cast(make: Callable[[], nn.Module]):
    layer, module, x = pair(make)
    before = module(x)
    with pytest.raises(RuntimeError, match=r"weight is torch.float32: a quantized layer takes its torch.int8 codes"):
        module.load_state_dict(layer.state_dict(), strict=False)
    assert torch.equal(module(x), before)


@pytest.mark.parametrize("scheme", ["int8-dynamic", "int8-weight-only"])
def test_a_write_through_data_counts_from_repack_on(scheme: str):
    x = torch.randn(4, 64)
    layer = (
        Quantizer(scheme, validators=(), kernel="auto").quantize(nn.Sequential(nn.Linear(64, 64, bias=False))).model[0]
    )
    with torch.no_grad():
        before = layer(x)
        layer.weight_scale.data.mul_(2)
        layer.repack()
        assert torch.allclose(layer(x), 2 * before, rtol=0.02, atol=0.02)


def test_what_is_written_through_data_of_a_float_weight_goes_with_repack():
    layer = Quantizer("int8-weight-only", validators=()).quantize(nn.Sequential(nn.Conv1d(4, 4, 3))).model[0]
    x = torch.randn(1, 4, 10)
    with torch.no_grad():
        before = layer(x)
        layer.weight.data.zero_()
        layer.repack()
        assert torch.equal(layer(x), before)


def test_a_kind_of_layer_that_does_not_say_what_it_must_is_told_so():
    module = QuantizedModule()
    for ask in (
        lambda: module.kernels_in_use,
        module.repack,
        lambda: module.use_kernels(()),
        lambda: module.to_float({}),
    ):
        with pytest.raises(NotImplementedError):
            ask()
