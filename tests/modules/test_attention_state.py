"""What quantized attention is made of, and that its packed weights always follow its tensors."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from fake_attention import Shapes, assert_right, attention, inputs, quantized
from fake_quantization import KERNELS
from torch import Tensor, nn

from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.modules import QuantizedMultiheadAttention, to_float
from mono_quant.plugin_api import Kernel, Support
from mono_quant.plugin_api.kernel import Op

LAYERS: dict[str, dict[str, Any]] = {
    "packed": {},
    "separate": {"kdim": 3, "vdim": 5},
    "without bias": {"bias": False, "batch_first": True},
}
EVERY_LAYER = pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS)

Triple = tuple[nn.MultiheadAttention, QuantizedMultiheadAttention, tuple[Tensor, ...]]


def triple(options: dict[str, Any], kernel: str = "auto", seed: int = 0) -> Triple:
    """A float layer, its quantized form, which ran already and so has packed its weights, and its inputs."""
    torch.manual_seed(seed)
    layer = attention(**options)
    module = quantized(layer, kernel=kernel)
    qkv = inputs(layer, Shapes(), "three")
    module(*qkv)
    assert module.kernels_in_use
    return layer, module, qkv


def pickled(module: nn.Module) -> nn.Module:
    loaded: nn.Module = pickle.loads(pickle.dumps(module))  # noqa: S301 - our own bytes
    return loaded


def saved_and_loaded(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    loaded: nn.Module = torch.load(file, weights_only=False)
    return loaded


def test_its_state_has_the_names_of_the_float_layer_and_their_scales():
    layer, module, _ = triple({})
    state = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in module.state_dict().items()}
    assert state == {
        "in_proj_weight": (torch.int8, (24, 8)),
        "in_proj_weight_scale": (torch.float32, (24,)),
        "in_proj_bias": (torch.float32, (24,)),
        "out_proj.weight": (torch.int8, (8, 8)),
        "out_proj.weight_scale": (torch.float32, (8,)),
        "out_proj.bias": (torch.float32, (8,)),
    }
    assert set(layer.state_dict()) <= set(state)
    assert all(type(tensor) is Tensor for tensor in module.state_dict().values())
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_separate_projections_have_a_weight_each():
    layer, module, _ = triple(LAYERS["separate"])
    names = [f"{part}_proj_weight" for part in "qkv"]
    assert {name: tuple(module.state_dict()[name].shape) for name in names} == {
        name: tuple(layer.state_dict()[name].shape) for name in names
    }
    assert module.in_proj_weight is None
    assert "in_proj_weight" not in module.state_dict()


@pytest.mark.parametrize("is_training", [True, False])
def test_it_is_in_the_mode_of_the_float_layer(*, is_training: bool):
    assert quantized(attention().train(is_training)).training == is_training


def test_nothing_of_it_is_the_float_layers():
    layer, module, _ = triple({})
    floats = {tensor.data_ptr() for tensor in layer.state_dict().values()}
    assert floats.isdisjoint(tensor.data_ptr() for tensor in module.state_dict().values())
    whole = quantized(layer, is_whole=False)
    own = (*whole.parameters(recurse=False), *whole.buffers(recurse=False))
    assert floats.isdisjoint(tensor.data_ptr() for tensor in own)
    assert whole.out_proj is layer.out_proj  # copied with the model that it stands in


@EVERY_LAYER
@pytest.mark.parametrize(
    "again",
    [
        copy.deepcopy,
        pickled,
        saved_and_loaded,
        lambda module: module.half().to(torch.float64).bfloat16().float(),
        lambda module: module.to("cpu", torch.half),
        lambda module: module.share_memory(),
        lambda module: module.requires_grad_().train().eval(),
    ],
    ids=["deepcopy", "pickle", "torch.save", "casts", "to", "share_memory", "flags"],
)
def test_it_is_the_same_after(again: Callable[[nn.Module], nn.Module], options: dict[str, Any]):
    layer, module, qkv = triple(options, "onednn")
    before, state = module(*qkv)[0], {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module = again(module)
    after = module.state_dict()
    assert list(after) == list(state)
    assert all(after[name].dtype == state[name].dtype and torch.equal(after[name], state[name]) for name in state)
    assert torch.equal(module(*qkv)[0], before)
    assert_right(module, layer, qkv)


@EVERY_LAYER
@pytest.mark.parametrize("assign", [True, False])
def test_it_computes_with_a_state_loaded_into_it(options: dict[str, Any], *, assign: bool):
    _, module, _ = triple(options)
    other_layer, other, qkv = triple(options, seed=1)
    module.load_state_dict(other.state_dict(), assign=assign)
    assert_right(module, other_layer, qkv)


@EVERY_LAYER
def test_a_state_can_be_loaded_into_a_module_without_tensors(options: dict[str, Any]):
    layer, module, qkv = triple(options)
    empty = copy.deepcopy(module).to("meta")
    empty.load_state_dict(module.state_dict(), assign=True)
    assert_right(empty, layer, qkv)


def test_float_weights_are_refused():
    layer, module, qkv = triple({})
    before = module(*qkv)[0]
    with pytest.raises(RuntimeError, match=r"in_proj_weight is torch.float32: a quantized layer takes its torch.int8"):
        module.load_state_dict(layer.state_dict(), strict=False)
    assert torch.equal(module(*qkv)[0], before)


@pytest.mark.parametrize("name", ["in_proj_weight", "in_proj_weight_scale", "in_proj_bias"])
@pytest.mark.parametrize("kind", ["self", "memory", "three"])
def test_it_follows_edits_by_hand(name: str, kind: str):
    layer, module, _ = triple({}, "onednn")
    qkv = inputs(layer, Shapes(), kind)
    before = module(*qkv)[0]
    with torch.no_grad():
        getattr(module, name).copy_(getattr(module, name).flip(0))
    assert not torch.equal(module(*qkv)[0], before)
    assert_right(module, layer, qkv)


def test_a_copy_is_independent_and_has_nothing_packed():
    layer, module, qkv = triple({}, "onednn")
    again = copy.deepcopy(module)
    assert again.kernels_in_use == ()
    again.in_proj_weight.zero_()
    again(*qkv)
    assert_right(module, layer, qkv)


def test_moving_drops_what_was_packed():
    _, module, _ = triple({})
    nn.Sequential(module).double()
    assert module.kernels_in_use == ()


def test_a_pickle_is_no_larger_than_its_tensors_and_a_little():
    torch.manual_seed(0)
    layer = attention(256, 4)
    module = quantized(layer)
    module(*inputs(layer, Shapes(), "self"))
    assert len(pickle.dumps(module)) < 256 * 256 * 4 + 1024 * 8 + 8000


class Counting(Kernel):
    """The reference, and how often it has packed how many rows."""

    def __init__(self) -> None:
        self.packed: list[int] = []

    def supports(self, op: Op, device: torch.device) -> Support:
        del op, device
        return Support()

    def pack(self, op: Op) -> Callable[[Tensor], Tensor]:
        if op.weight_scale[0] != torch.tensor(0.001):  # which the small layers have that a kernel is verified with
            self.packed.append(len(op.weight))
        return ReferenceKernel().pack(op)


def test_each_projection_is_packed_once():
    layer = attention()
    module, kernel = quantized(layer), Counting()
    module.use_kernels((("counting", kernel),), "counting")
    for _ in range(3):
        for kind in ("self", "memory", "three"):
            module(*inputs(layer, Shapes(), kind))
    assert sorted(kernel.packed) == [8, 8, 8, 16, 24]
    assert module.kernels_in_use == ("counting",)


@pytest.mark.parametrize("kernel", ["reference", "fbgemm", "onednn"])
def test_a_kernel_that_was_asked_for_is_used(kernel: str):
    _, module, _ = triple({}, kernel)
    assert module.kernels_in_use == (kernel,)
    assert module.out_proj.kernels_in_use == (kernel,)
    assert [name for name, _ in module.engines["qkv"].kernels] == [name for name, _ in KERNELS]


@EVERY_LAYER
def test_back_in_float_it_is_torchs_layer_with_the_weights_that_the_codes_stand_for(options: dict[str, Any]):
    layer, module, qkv = triple({**options, "dropout": 0.25})
    floats = to_float(module.train())
    assert type(floats) is nn.MultiheadAttention
    assert type(floats.out_proj) is type(layer.out_proj)
    assert floats.training
    assert floats.dropout == 0.25
    assert list(floats.state_dict()) == list(layer.state_dict())
    for name, spec in module.weight_specs.items():
        codes, scale = module.stored(name).values()
        assert torch.equal(floats.get_parameter(name), codes.float() * scale[:, None])
        assert tuple(floats.get_parameter(name).shape) == spec.shape
    if layer.in_proj_bias is not None:
        assert torch.equal(floats.in_proj_bias, layer.in_proj_bias)
    assert torch.equal(floats.out_proj.weight, module.out_proj.dequantized())
    with torch.no_grad():
        expected, actual = (one.eval()(*qkv)[0] for one in (floats, module))
    assert float((expected - actual).square().sum() / expected.square().sum()) < 1e-3


def test_back_in_float_an_output_projection_that_was_float_is_a_copy():
    layer = attention()
    module = quantized(layer, is_whole=False)
    floats = to_float(module)
    assert torch.equal(floats.out_proj.weight, layer.out_proj.weight)
    assert floats.out_proj.weight.data_ptr() != module.out_proj.weight.data_ptr()


def test_it_shows_its_dimensions_and_how_it_is_stored():
    text = repr(quantized(attention()))
    assert "embed_dim=8, num_heads=2, int8 symmetric per-channel(0)" in text
