"""Outputs that are computed when they are used: the same numbers, and to the rest of a model the same tensors."""

import copy
import io
import pickle
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from deferring_nets import NETS, Residual, images
from torch import Tensor, nn
from torch.nn import functional

from mono_quant import Quantizer, dequantize_model
from mono_quant.core.sqnr import sum_sqnr_db
from mono_quant.core.tensors import iter_tensors, same_bits
from mono_quant.modules import KernelModule
from mono_quant.modules.deferred import Deferred, plain
from mono_quant.modules.layer_output import Values
from mono_quant.plugin_api.plan import Handover

EVERY_NET = pytest.mark.parametrize("net", NETS.values(), ids=NETS)
EVERY_HANDOVER = pytest.mark.parametrize("handover", get_args(Handover))
SAME_DB = 70.0
"""Where a number is rounded in another order, one code in very many is the neighbour."""


def quantized(net: Callable[[], nn.Module], **options: Any) -> nn.Module:  # noqa: ANN401
    data = [images(seed) for seed in range(3)]
    return Quantizer(kernel="onednn", validators=(), show_progress=False, **options).quantize(net().eval(), data).model


def told(model: nn.Module, handover: Handover) -> nn.Module:
    """The model with all its layers handing over so, whether that suits them or not."""
    for module in model.modules():
        if isinstance(module, KernelModule):
            module.handover = handover
    return model


def run(model: nn.Module, x: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return list(iter_tensors(model(x)))


@EVERY_HANDOVER
@EVERY_NET
def test_a_model_gives_what_it_gives_layer_by_layer(net: Callable[[], nn.Module], handover: Handover):
    expected = run(quantized(net, fuse=False), images(7))
    actual = run(told(quantized(net), handover), images(7))
    assert [x.shape for x in expected] == [y.shape for y in actual]
    assert sum_sqnr_db(zip(expected, actual, strict=True)) > SAME_DB


@EVERY_NET
def test_what_leaves_a_model_are_plain_tensors(net: Callable[[], nn.Module]):
    expected, actual = (run(quantized(net, fuse=fuse), images(7)) for fuse in (False, True))
    assert all(type(y) is Tensor for y in actual)
    assert [x.stride() for x in expected] == [y.stride() for y in actual]


def test_the_first_batch_shows_what_is_best_for_each_layer():
    found = {
        name: {n: m.handover for n, m in quantized(net).named_modules() if isinstance(m, KernelModule)}
        for name, net in NETS.items()
    }
    assert found["Residual"] == {"first": "deferred-float", "second": "deferred-float", "head": "float"}
    assert found["Chained"] == {"first": "deferred", "second": "deferred-float", "head": "float"}
    assert found["BeforeAndAfter"] == {"first": "float", "second": "deferred-float", "head": "float"}
    assert found["Perceptron"] == {"first": "deferred", "second": "float", "third": "float"}


def test_nothing_is_deferred_where_that_is_switched_off_or_nothing_ran():
    for model in (quantized(Residual, fuse=False), dynamic_model()):
        assert all(module.handover == "float" for module in model.modules() if isinstance(module, KernelModule))
        assert not model._forward_hooks


def dynamic_model() -> nn.Module:
    return Quantizer("int8-dynamic", validators=(), show_progress=False).quantize(nn.Sequential(nn.Linear(4, 4))).model


@pytest.mark.parametrize("kernel", ["reference", "fbgemm", "onednn", "auto"])
def test_what_is_best_does_not_depend_on_the_kernel(kernel: str):
    for net in NETS.values():
        found = Quantizer(kernel=kernel, validators=(), show_progress=False).quantize(net().eval(), [images()]).plan
        expected = quantized(net)
        for name, plan in found.layers.items():
            assert plan.handover == expected.get_submodule(name).handover


def test_saved_loaded_copied_and_pickled_models_hand_over_alike(tmp_path: Path):
    quantizer = Quantizer(kernel="onednn", show_progress=False)
    result = quantizer.quantize(Residual().eval(), [images(seed) for seed in range(3)])
    result.save(tmp_path / "model.safetensors")
    expected = run(result.model, images(7))
    for again in (
        quantizer.load(tmp_path / "model.safetensors", Residual),
        copy.deepcopy(result.model),
        pickle.loads(pickle.dumps(result.model)),  # noqa: S301 - pickled on this line
    ):
        assert again.first.handover == "deferred-float"
        actual = run(again, images(7))
        assert all(map(same_bits, expected, actual))
        assert all(type(y) is Tensor for y in actual)
    assert result.plan.layers["first"].handover == "deferred-float"


def test_in_place_the_models_own_layers_hand_over():
    model = Residual().eval()
    quantizer = Quantizer(kernel="onednn", validators=["size"], show_progress=False)
    result = quantizer.quantize(model, [images()], inplace=True)
    assert result.model is model
    assert result.info.fused_layers == ("first", "second")
    assert model.first.handover == "deferred-float"
    assert [type(y) for y in run(model, images(7))] == [Tensor]


def test_the_float_model_of_a_quantized_one_has_none_of_it():
    assert not dequantize_model(quantized(Residual))._forward_hooks


def deferred(*shape: int, is_channels_last: bool = False) -> tuple[Deferred, Tensor]:
    """A deferred tensor and the plain one that it must look like."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    layout = torch.channels_last if is_channels_last else torch.contiguous_format
    inner = torch.channels_last if x.ndim == 4 else torch.contiguous_format
    values = Values(x.contiguous(memory_format=inner))
    return Deferred(values, is_channels_last=is_channels_last), x.contiguous(memory_format=layout)


LOOKS: dict[str, Callable[[Tensor], Any]] = {
    "shape": lambda x: x.shape,
    "dtype": lambda x: x.dtype,
    "device": lambda x: x.device,
    "stride": lambda x: x.stride(),
    "ndim": lambda x: x.ndim,
    "contiguous": lambda x: (x.is_contiguous(), x.is_contiguous(memory_format=torch.channels_last)),
    "numel": lambda x: x.numel(),
    "len": len,
    "size": lambda x: x.size(0),
    "float": lambda x: x.is_floating_point(),
    "requires_grad": lambda x: x.requires_grad,
    "bool": lambda x: bool(x.sum() > 0),
    "item": lambda x: x.max().item(),
    "list": lambda x: x.tolist(),
    "numpy": lambda x: x.numpy().tolist(),
    "array": lambda x: np.asarray(x).tolist(),
    "repr": repr,
    "index": lambda x: x[0, 1:].tolist(),
    "iterate": lambda x: [one.tolist() for one in x],
    "double": lambda x: x.double().tolist(),
    "float32": lambda x: x.float().stride(),
    "to": lambda x: x.to(torch.bfloat16).tolist(),
    "cpu": lambda x: x.cpu().tolist(),
    "stack": lambda x: torch.stack([x, x]).tolist(),
    "einsum": lambda x: torch.einsum("nchw,nchw->nc", x, x).shape,
    "where": lambda x: torch.where(x > 0, x, 0.0).tolist(),
    "compare": lambda x: (x == x.clone()).all().item(),
    "pointer": lambda x: x.data_ptr() != 0 and x.data_ptr() == x.data_ptr(),
    "softmax": lambda x: functional.softmax(x, -1).sum().item(),
    "deepcopy": lambda x: copy.deepcopy(x).tolist(),
    "pickle": lambda x: pickle.loads(pickle.dumps(x)).tolist(),  # noqa: S301 - pickled on this line
    "type of a copy": lambda x: type(copy.deepcopy(x)),
    "saved": lambda x: saved_and_loaded(x).tolist(),
    "dlpack": lambda x: torch.from_dlpack(x).tolist(),
    "storage": lambda x: x.untyped_storage().nbytes(),
    "reversed sum": lambda x: (1 + x).tolist(),
    "difference": lambda x: (torch.ones(()) - x).tolist(),
}


def saved_and_loaded(x: Tensor) -> Tensor:
    file = io.BytesIO()
    torch.save(x, file)
    file.seek(0)
    return torch.load(file)


@pytest.mark.parametrize("is_channels_last", [False, True])
@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_it_looks_like_the_plain_tensor(look: Callable[[Tensor], Any], *, is_channels_last: bool):
    tensor, expected = deferred(2, 3, 4, 5, is_channels_last=is_channels_last)
    assert isinstance(tensor, Tensor)
    assert look(tensor) == look(expected)
    assert look(tensor) == look(expected)  # also once it is there


def test_its_attributes_are_those_of_a_tensor():
    tensor, expected = deferred(2, 3, 4, 5)
    assert [name for name in dir(tensor) if not name.startswith("_")] == [
        name for name in dir(expected) if not name.startswith("_")
    ]


WRITES: dict[str, Callable[[Tensor], Any]] = {
    "index": lambda x: x.__setitem__((0, 1), 7.0),
    "zero_": lambda x: x.zero_(),
    "relu_": lambda x: x.relu_(),
    "torch.relu_": torch.relu_,
    "functional": lambda x: functional.relu(x, inplace=True),
    "hardtanh": lambda x: functional.hardtanh(x, -0.5, 0.5, inplace=True),
    "add_": lambda x: x.add_(torch.ones(5), alpha=2),
    "mul_": lambda x: x.mul_(x),
    "clamp_": lambda x: x.clamp_(min=0),
    "copy_": lambda x: x.copy_(torch.zeros(5)),
    "out": lambda x: torch.exp(torch.ones(2, 3, 4, 5), out=x),
    "data": lambda x: x.data.fill_(3),
    "view": lambda x: x.view(-1).neg_(),
    "shape": lambda x: x.unsqueeze_(1),
    "axes": lambda x: x.transpose_(1, 2),
    "other memory": lambda x: setattr(x, "data", torch.ones(3)),
    "gradient": lambda x: x.requires_grad_(),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("is_seen", [False, True])
def test_what_is_written_into_it_is_seen(write: Callable[[Tensor], Any], *, is_seen: bool):
    tensor, expected = deferred(2, 3, 4, 5)
    alias = tensor
    views = [x.view(6, 20) if is_seen else None for x in (tensor, expected)]
    write(tensor)
    write(expected)
    assert same_bits(plain(alias), expected)
    assert (alias.shape, alias.stride(), alias.requires_grad) == (
        expected.shape,
        expected.stride(),
        expected.requires_grad,
    )
    if is_seen:
        assert same_bits(*views)


def test_a_sum_that_does_not_fit_is_refused_as_ever():
    tensor, _ = deferred(2, 1, 1, 5)
    with pytest.raises(RuntimeError, match="shape"):
        tensor += torch.ones(2, 3, 4, 5)


def test_a_plain_tensor_takes_it_in_place():
    tensor, expected = deferred(2, 3, 4, 5)
    total = torch.ones(2, 3, 4, 5)
    assert total.add_(tensor) is total
    assert same_bits(total, expected + 1)


CHANGES: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "input": lambda _, x: x.zero_(),
    "weight": lambda layer, _: layer.weight.zero_(),
    "bias": lambda layer, _: layer.bias.data.zero_(),
    "scale": lambda layer, _: layer.weight_scale.data.zero_(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_output_is_of_the_weights_and_the_input_at_the_time_of_the_call(change: Callable[..., Tensor]):
    layer, x = told(quantized(Residual), "deferred").first, images(7)
    expected, output = plain(layer(x)), layer(x)
    change(layer, x)
    assert same_bits(plain(output), expected)


def test_threads_get_the_same_bits():
    model, x = quantized(Residual), images(7)
    expected = run(model, x)
    with ThreadPoolExecutor(4) as pool:
        for actual in pool.map(lambda _: run(model, x), range(16)):
            assert all(map(same_bits, expected, actual))


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16, torch.float64])
def test_other_dtypes_are_handed_over_as_they_were(dtype: torch.dtype):
    model = quantized(Residual)
    output = told(model, "deferred").first(images(7).to(dtype))
    assert (type(output), output.dtype) == (Tensor, dtype)


def test_channels_last_inputs_give_channels_last_outputs():
    x = images(7).contiguous(memory_format=torch.channels_last)
    for handover in get_args(Handover):
        output = told(quantized(Residual), handover).first(x)
        assert output.is_contiguous(memory_format=torch.channels_last)
        assert output.stride() == (plain(output) if isinstance(output, Deferred) else output).stride()


def test_hooks_see_the_outputs_as_tensors():
    model, seen = quantized(Residual), []
    model.second.register_forward_hook(lambda _, __, output: seen.append(output.abs().mean().item()))
    run(model, images(7))
    assert seen[0] > 0


@pytest.mark.parametrize("way", ["compile", "export"])
def test_a_compiled_or_exported_model_computes_at_once(way: str):
    model, x = quantized(Residual), images(7)
    expected = run(model, x)
    torch.compiler.reset()
    other = (
        torch.compile(model, backend="eager", fullgraph=True)
        if way == "compile"
        else torch.export.export(model, (x,)).module()
    )
    assert sum_sqnr_db(zip(expected, run(other, x), strict=True)) > SAME_DB
    torch.compiler.reset()


@pytest.mark.parametrize("shape", [(2, 4, 16, 16), (2, 3, 16), (2, 3, 0, 16), (3, 16)])
def test_what_a_layer_cannot_take_is_refused_where_it_is_called(shape: tuple[int, ...]):
    layer = told(quantized(Residual), "deferred").first
    layer(images(7))
    with pytest.raises(RuntimeError):
        layer(torch.zeros(shape))


def test_an_unbatched_image_comes_out_as_ever():
    layer, x = told(quantized(Residual), "deferred").first, images(7)
    assert torch.equal(layer(x[0]), layer(x)[0])


def test_a_look_in_inference_mode_does_not_make_it_a_tensor_of_that_mode():
    tensor, expected = deferred(2, 3, 4, 5)
    with torch.inference_mode():
        assert tensor.mean() == expected.mean()
    tensor[:, 0] = 0
    assert not plain(tensor).is_inference()


def test_containers_of_the_users_are_looked_into():
    class Several(list):
        pass

    tensor, expected = deferred(2, 3, 4, 5)
    assert same_bits(torch.cat(Several([tensor, tensor])), torch.cat([expected, expected]))


def test_gradients_of_what_it_meets_are_kept():
    gamma = torch.ones(4, 1, requires_grad=True)
    tensor, expected = deferred(2, 3, 4, 5)
    pooled = functional.max_pool2d(functional.relu(tensor * gamma), 2)
    with torch.no_grad():
        pooled.mean()
    pooled.sum().backward()
    found, gamma.grad = gamma.grad, None
    functional.max_pool2d(functional.relu(expected * gamma), 2).sum().backward()
    assert torch.equal(found, gamma.grad)


def test_a_function_that_is_mapped_may_close_over_it():
    tensor, expected = deferred(2, 3, 4, 5)
    assert same_bits(torch.func.vmap(lambda a: tensor * a)(torch.ones(2)), torch.stack([expected, expected]))


def test_tensors_of_other_classes_stay_of_them():
    class Other(Tensor):
        pass

    tensor, _ = deferred(2, 3, 4, 5)
    assert type(tensor + torch.ones(5).as_subclass(Other)) is Other
    layer = told(quantized(Residual), "deferred").first
    assert not isinstance(layer(images(7).as_subclass(Other)), Deferred)


@pytest.mark.parametrize("net", [Residual, NETS["Perceptron"]])
@EVERY_HANDOVER
def test_an_empty_batch_gives_an_empty_output(net: Callable[[], nn.Module], handover: Handover):
    layer = told(quantized(net), handover).first
    x = images(7)[:0] if isinstance(layer.weight, Tensor) and layer.weight.ndim == 4 else torch.zeros(0, 3)
    assert len(layer(x)) == 0


@pytest.mark.parametrize("arguments", [([2],), (2, 0), (2, 1, 2), ((3,), (2,), (1,)), (2, -1), (0,)], ids=str)
def test_pooling_takes_and_refuses_what_torch_does(arguments: tuple[object, ...]):
    tensor, expected = deferred(2, 3, 6, 6)
    try:
        right = functional.max_pool2d(expected, *arguments)
    except (RuntimeError, ZeroDivisionError):
        with pytest.raises((RuntimeError, ZeroDivisionError)):
            functional.max_pool2d(tensor, *arguments)
    else:
        assert same_bits(plain(functional.max_pool2d(tensor, *arguments)), right)


def test_what_was_pooled_keeps_nothing_else_alive():
    model = told(quantized(Residual), "deferred-float")
    output = functional.relu(model.first(images(7)))
    source = weakref.ref(output._output.values())
    pooled = functional.max_pool2d(output, 2)
    pooled._output.values()
    del output
    assert source() is None


def test_a_model_that_gives_back_what_it_keeps_gives_that_itself():
    model = quantized(Residual)
    kept = {"cache": [torch.zeros(1)]}
    model.forward = lambda _: kept
    assert model(images(7)) is kept


@pytest.mark.parametrize("net", ["Residual", "Chained", "Shared", "WithParameters", "Gated"])
@EVERY_HANDOVER
def test_channels_last_models_too(net: str, handover: Handover):
    x = images(7).contiguous(memory_format=torch.channels_last)
    expected = run(quantized(NETS[net], fuse=False), x)
    actual = run(told(quantized(NETS[net]), handover), x)
    assert sum_sqnr_db(zip(expected, actual, strict=True)) > SAME_DB


def test_linear_outputs_lie_as_ever_also_of_channels_last_inputs():
    model = told(quantized(NETS["Perceptron"]), "deferred")
    x = torch.randn(2, 4, 5, 3).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    assert x.shape[-1] == 3
    assert model.first(x).is_contiguous()
