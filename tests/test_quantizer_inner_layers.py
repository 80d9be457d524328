"""What a layer with others inside shares with the rest of its model, it shares with it when it is quantized."""

import copy
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mono_quant import Quantizer
from mono_quant.functional import dequantize_model
from mono_quant.modules import QuantizedModule

SIZE = 8
X = torch.randn(4, SIZE, generator=torch.Generator().manual_seed(0))


class Around(nn.Linear):
    """A Linear around another module."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__(SIZE, SIZE)
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(super().forward(x))


class Scaled(nn.Module):
    """It reads a parameter that it may not have alone."""

    def __init__(self, factor: nn.Parameter) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Model(nn.Module):
    """A norm, a parameter and a buffer that stand inside a Linear and beside it; it notes what its hooks see."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(SIZE)
        self.factor = nn.Parameter(torch.randn(SIZE))
        self.register_buffer("table", torch.randn(SIZE))
        self.around = Around(nn.Sequential(self.norm, Scaled(self.factor), nn.Linear(SIZE, SIZE), nn.ReLU()))
        self.around.register_buffer("table", self.table)
        self.seen: list[str] = []
        self.around.inside[3].register_forward_hook(self.note)
        self.around.inside[2].register_forward_hook(self.note)

    def note(self, module: nn.Module, _: object, __: object) -> None:
        self.seen.append(type(module).__name__)

    def forward(self, x: Tensor) -> Tensor:
        return self.around(self.norm(x)) * self.factor + self.table + self.around.table


def attentive() -> nn.Module:
    return nn.ModuleDict({"attention": nn.MultiheadAttention(SIZE, 2), "head": nn.Linear(SIZE, SIZE)})


def quantized(model: nn.Module, *, inplace: bool = False, validators: tuple[str, ...] = ("load-run",)) -> nn.Module:
    return Quantizer("int8-weight-only", validators=validators).quantize(model, [X], inplace=inplace).model


def assert_shared(model: nn.Module) -> None:
    assert isinstance(model.around, QuantizedModule)
    assert isinstance(model.around.inside[2], QuantizedModule)
    assert model.around.inside[0] is model.norm
    assert model.around.inside[1].factor is model.factor
    assert model.around.table is model.table


def test_in_a_copy_it_is_shared_with_the_copy_and_not_with_the_model():
    model = Model()
    result = quantized(model)
    assert_shared(result)
    assert result.norm is not model.norm
    assert result.table is not model.table
    assert type(model.around.inside[2]) is nn.Linear


@pytest.mark.parametrize("validators", [("sqnr", "load-run"), ()], ids=["validated", "not validated"])
def test_in_place_it_is_shared_with_the_model(validators: tuple[str, ...]):
    model = Model()
    norm, inside, factor, table = model.norm, model.around.inside, model.factor, model.table
    quantized(model, inplace=True, validators=validators)
    assert_shared(model)
    assert (model.norm, model.around.inside) == (norm, inside)
    assert model.factor is factor
    assert model.table is table


@pytest.mark.parametrize("inplace", [False, True])
def test_hooks_inside_go_on_as_methods_of_the_quantized_model(*, inplace: bool):
    result = quantized(Model(), inplace=inplace)
    result.seen.clear()
    result(X)
    assert result.seen == ["QuantizedLinear", "ReLU"]


def test_a_loaded_model_shares_them_too(tmp_path: Path):
    result = Quantizer("int8-weight-only").quantize(Model(), [X])
    result.save(tmp_path / "model.safetensors")
    loaded = Quantizer("int8-weight-only").load(tmp_path / "model.safetensors", Model)
    assert_shared(loaded)
    assert torch.equal(loaded(X), result.model(X))


def test_back_in_float_layers_at_any_depth_are_float_and_what_was_shared_is():
    model = quantized(Model())
    floats = dequantize_model(model)
    assert not any(isinstance(module, QuantizedModule) for module in floats.modules())
    assert type(floats.around.inside[2]) is nn.Linear
    assert floats.around.inside[0] is floats.norm is not model.norm
    assert floats.around.inside[1].factor is floats.factor
    floats.seen.clear()
    assert torch.equal(floats(X), model(X))
    assert floats.seen == ["Linear", "ReLU"]


def test_a_layer_that_stands_inside_two_others_is_one_quantized_layer_and_one_back_in_float():
    inner = nn.Linear(SIZE, SIZE)
    model = quantized(nn.Sequential(Around(nn.Sequential(inner)), Around(inner), inner))
    assert isinstance(model[2], QuantizedModule)
    floats = dequantize_model(model)
    for each in (model, floats):
        assert each[0].inside[0] is each[1].inside is each[2]
    assert type(floats[2]) is nn.Linear


def test_an_output_projection_that_stays_float_is_shared_with_its_hooks():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = (nn.MultiheadAttention(SIZE, 2) for _ in range(2))
            self.second.out_proj = self.first.out_proj
            self.first.out_proj.register_forward_hook(self.note)

        def note(self, *_: object) -> None:
            pass

    model = Two()
    result = Quantizer("int8-dynamic", exclude="*out_proj", validators=()).quantize(model).model
    assert result.first.out_proj is result.second.out_proj is not model.first.out_proj
    (hook,) = result.first.out_proj._forward_hooks.values()
    assert hook.__self__ is result


def test_loading_leaves_the_attention_of_the_model_given_as_it_is(tmp_path: Path):
    Quantizer("int8-dynamic", validators=()).quantize(attentive()).save(tmp_path / "model.safetensors")
    skeleton = attentive()
    Quantizer("int8-dynamic").load(tmp_path / "model.safetensors", skeleton)
    assert not any(tensor.is_meta for tensor in skeleton.state_dict().values())


@pytest.mark.parametrize("make", [attentive, lambda: nn.ModuleDict({"attention": nn.Linear(SIZE, SIZE)})])
def test_back_in_float_each_layer_is_of_its_own_class(make: Callable[[], nn.Module]):
    model = make()
    floats = dequantize_model(Quantizer("int8-dynamic", validators=()).quantize(model).model)
    assert [type(module) for module in floats.modules()] == [type(module) for module in model.modules()]


class Locked(nn.Linear):
    """It can be copied since it leaves out its lock then, and makes another."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.lock = threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            return super().forward(x)


class LockedLSTM(nn.LSTM):
    """The same of a layer whose own class has a way of being copied."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.lock = threading.Lock()


@pytest.mark.parametrize("kind", [Locked, LockedLSTM])
@pytest.mark.parametrize("inplace", [False, True])
def test_a_layer_is_copied_in_the_way_that_its_class_says(kind: type[nn.Module], *, inplace: bool):
    model = nn.Sequential(kind(SIZE, SIZE))
    lock = model[0].lock
    result = Quantizer("int8-weight-only").quantize(model, [X], inplace=inplace).model
    assert isinstance(result[0], QuantizedModule)
    assert (result[0].lock is lock) == inplace
    again = copy.deepcopy(result)
    unpickled = pickle.loads(pickle.dumps(result))  # noqa: S301 - our own bytes
    floats = dequantize_model(result)
    expected = torch.utils._pytree.tree_leaves(floats(X))
    assert len({id(each[0].lock) for each in (result, again, unpickled, floats)}) == 4
    for each in (result, again, unpickled):
        for y, right in zip(torch.utils._pytree.tree_leaves(each(X)), expected, strict=True):
            torch.testing.assert_close(y, right, rtol=0.02, atol=0.02)


class Tagged(nn.Linear):
    """Whoever derives from it must say more."""

    def __init_subclass__(cls, *, tag: str) -> None:
        super().__init_subclass__()
        cls.tag = tag


def test_a_class_that_refuses_a_subclass_stays_in_float_and_says_so():
    model = nn.Sequential(Tagged(SIZE, SIZE), nn.Linear(SIZE, SIZE))
    result = Quantizer("int8-weight-only").quantize(model, [X])
    assert result.info.selected_layers == ("1",)
    assert result.info.skipped_layers["0"].startswith("Tagged cannot have a subclass (TypeError: ")
