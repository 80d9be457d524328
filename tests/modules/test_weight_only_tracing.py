"""Layers with weights stored as codes inside torch's compilers and function transforms."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from weight_only_cases import CASES, Case, assert_same, quantized, twin

from mono_quant.modules import WeightOnly

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def _nothing_compiled_before() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def pair(name: str, scheme: str = "int4") -> tuple[nn.Module, nn.Module, list[tuple[Any, ...]]]:
    case: Case = CASES[name]
    model = case.model()
    module = quantized(model, scheme)
    return module, twin(model, module), case.calls()


def values_of(layer: WeightOnly) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in layer.state_dict().items() if name.endswith("_scale")}


SOME_SCHEMES = pytest.mark.parametrize("scheme", ["int4", "float8"])
COMPILED = (
    "linear",
    "embedding",
    "embedding-padded",
    "bag-sum",
    "bag-mean-padded",
    "conv2d",
    "transposed1d",
    "gru-cell",
)


@SOME_SCHEMES
@pytest.mark.parametrize("name", COMPILED)
def test_torch_compile_takes_the_whole_layer(name: str, scheme: str):
    module, expected, calls = pair(name, scheme)
    call = calls[0]
    with torch.no_grad():
        if scheme == "int4":
            module(*call)  # used before, or not
        run = torch.compile(module, backend="eager", fullgraph=True)
        assert_same(run(*call), expected(*call))
        assert_same(module(*call), expected(*call))


@pytest.mark.parametrize("name", ["linear", "embedding"])
def test_what_was_compiled_follows_a_loaded_state(name: str):
    module, _, calls = pair(name)
    run = torch.compile(module, backend="eager", fullgraph=True)
    with torch.no_grad():
        run(*calls[0])
        torch.manual_seed(1)
        other, expected, _ = pair(name)
        module.load_state_dict(other.state_dict())
        assert_same(run(*calls[0]), expected(*calls[0]))


@pytest.mark.parametrize("name", ["linear", "embedding"])
def test_other_batch_sizes_are_compiled_too(name: str):
    module, expected, _ = pair(name)
    run = torch.compile(module, backend="eager", fullgraph=True, dynamic=True)
    with torch.no_grad():
        for rows in (2, 5, 1, 30):
            x = torch.randn(rows, 20) if name == "linear" else torch.randint(0, 9, (rows, 4))
            assert_same(run(x), expected(x))


@SOME_SCHEMES
@pytest.mark.parametrize("name", ["linear", "linear-no-bias", "embedding", "conv2d"])
@pytest.mark.parametrize("strict", [True, False])
def test_torch_export_takes_the_whole_layer(name: str, scheme: str, *, strict: bool):
    module, expected, calls = pair(name, scheme)
    program = torch.export.export(module, calls[0], strict=strict)
    with torch.no_grad():
        assert_same(program.module()(*calls[0]), expected(*calls[0]))
    assert {name: tensor.dtype for name, tensor in program.state_dict.items()} == {
        name: tensor.dtype for name, tensor in module.state_dict().items()
    }


@pytest.mark.parametrize("name", ["linear", "embedding"])
def test_a_batch_of_any_size_is_exported(name: str):
    module, expected, _ = pair(name)
    first, other = ((torch.randn(rows, 20) if name == "linear" else torch.randint(0, 9, (rows, 4))) for rows in (3, 7))
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(module.layer, (first,), dynamic_shapes=shapes)
    with torch.no_grad():
        assert_same(program.module()(other), expected(other))


@SOME_SCHEMES
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning", "ignore:.torch.jit:FutureWarning")
@pytest.mark.parametrize("name", ["linear", "embedding", "conv2d", "transposed2d", "bag-sum"])
def test_torch_jit_traces_the_layer(name: str, scheme: str):
    module, expected, calls = pair(name, scheme)
    with torch.no_grad():
        traced = torch.jit.trace(module, calls[0])
        assert_same(traced(*calls[0]), expected(*calls[0]))


TRANSFORMED = ("linear", "conv1d", "embedding", "gru-cell")


@pytest.mark.parametrize("name", [*TRANSFORMED, "lstm"])
def test_a_functional_call_with_other_scales_uses_those_and_leaves_the_layer_as_it_is(name: str):
    module, expected, calls = pair(name, "int8")
    call = calls[0]
    with torch.no_grad():
        before = module(*call)
        doubled = {f"layer.{name}": 2 * scale for name, scale in values_of(module.layer).items()}
        for parameter in module.layer.weight_specs:
            expected.layer.get_parameter(parameter).mul_(2)
        assert_same(torch.func.functional_call(module, doubled, call), expected(*call))
        assert_same(module(*call), before)


@pytest.mark.parametrize("name", TRANSFORMED)
def test_scales_have_gradients_in_a_functional_call(name: str):
    module, _, calls = pair(name, "int8")
    call = calls[0]
    scales = values_of(module.layer)

    def total(scales: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(module.layer, scales, call).square().sum()

    gradients = torch.func.grad(total)(scales)
    for key, gradient in gradients.items():
        step = torch.zeros_like(scales[key])
        step[1] = scales[key][1] / 1024
        difference = total({**scales, key: scales[key] + step}) - total({**scales, key: scales[key] - step})
        torch.testing.assert_close(difference, 2 * (gradient * step).sum(), rtol=2e-2, atol=1e-4)


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # torch's, where it has no batching rule
@pytest.mark.parametrize("name", TRANSFORMED)
def test_a_transform_leaves_nothing_of_its_own_behind(name: str):
    module, expected, calls = pair(name, "int8")
    call = calls[0]
    scales = values_of(module.layer)

    def run(scales: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(module.layer, scales, call)

    module.layer.repack()
    torch.func.grad(lambda scales: run(scales).sum())(scales)
    torch.vmap(run)({key: torch.stack([scale, 2 * scale]) for key, scale in scales.items()})
    with torch.no_grad():
        assert_same(module(*call), expected(*call))


@pytest.mark.parametrize("name", ["linear", "conv1d"])
def test_vmap_and_grad_over_the_input_are_those_of_the_float_layer(name: str):
    module, expected, calls = pair(name, "int8")
    x = torch.stack([calls[0][0], 2 * calls[0][0]])
    torch.testing.assert_close(torch.vmap(module)(x), torch.vmap(expected)(x))
    ours, theirs = (torch.func.grad(lambda x, one=one: one(x).square().sum())(x[0]) for one in (module, expected))
    torch.testing.assert_close(ours, theirs)
    ours, theirs = (torch.func.jacrev(lambda x, one=one: one(x))(x[0]) for one in (module, expected))
    torch.testing.assert_close(ours, theirs)


def test_vmap_over_many_scales_is_many_layers():
    module, expected, calls = pair("linear", "int8")
    scale = module.layer.weight_scale.detach()
    many = torch.stack([scale, 2 * scale, scale / 2])
    actual = torch.vmap(lambda scale: torch.func.functional_call(module.layer, {"weight_scale": scale}, calls[0]))(many)
    weight, bias = expected.layer.weight, expected.layer.bias
    for factor, one in zip((1, 2, 0.5), actual, strict=True):
        torch.testing.assert_close(one, nn.functional.linear(calls[0][0], factor * weight, bias))
