"""What a layer with weights stored as codes is made of, and that it stays the same through copying and files."""

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
import torch
from test_weight_only_attention import ATTENTIONS
from torch import Tensor, nn
from weight_only_cases import (
    CASES,
    EVERY_CASE,
    EVERY_SCHEME,
    NO_ONEDNN,
    Case,
    Holder,
    assert_same,
    quantized,
    quantizer,
    twin,
)

from mono_quant.core.tensors import same_bits
from mono_quant.kernels.float_cache import FLOAT_CACHE
from mono_quant.modules import QuantizedModule

pytestmark = NO_ONEDNN


def outputs(model: nn.Module, calls: list[tuple[object, ...]]) -> list[object]:
    with torch.no_grad():
        return [model(*call) for call in calls]


def saved_and_loaded(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    loaded: nn.Module = torch.load(file, weights_only=False)
    return loaded


def pickled(module: nn.Module) -> nn.Module:
    loaded: nn.Module = pickle.loads(pickle.dumps(module))  # noqa: S301 - our own bytes
    return loaded


AGAIN: dict[str, Callable[[nn.Module], nn.Module]] = {
    "deepcopy": copy.deepcopy,
    "pickle": pickled,
    "torch.save": saved_and_loaded,
    "share_memory": lambda module: module.share_memory(),
    "flags": lambda module: module.requires_grad_(requires_grad=False).train().eval(),
    "casts": lambda module: module.double().float(),
}


@EVERY_SCHEME
@EVERY_CASE
def test_its_state_has_the_float_names_and_those_of_scales(case: Case, scheme: str):
    model = case.model()
    module = quantized(model, scheme)
    state = module.state_dict()
    expected = set(model.state_dict())
    for name, spec in module.layer.weight_specs.items():
        expected |= {f"layer.{name}{suffix}" for suffix in spec.layout}
        assert {
            suffix: (state[f"layer.{name}{suffix}"].dtype, state[f"layer.{name}{suffix}"].shape)
            for suffix in spec.layout
        } == spec.layout
    assert set(state) == expected
    assert all(type(tensor) is Tensor for tensor in state.values())


@pytest.mark.parametrize("scheme", ["int4", "float8"])
@EVERY_CASE
@pytest.mark.parametrize("again", AGAIN)
def test_it_is_the_same_after(again: str, case: Case, scheme: str):
    module = quantized(case.model(), scheme)
    if again == "pickle" and scheme == "float8":
        again = "torch.save"  # torch pickles no float8 tensors in any other way
    calls = case.calls()
    before, state = outputs(module, calls), {name: tensor.clone() for name, tensor in module.state_dict().items()}
    other = AGAIN[again](module)
    after = other.state_dict()
    assert list(after) == list(state)
    assert all(same_bits(after[name], state[name]) for name in state)
    assert type(other.layer) is type(module.layer)
    assert_same(outputs(other, calls), before)
    if again in {"deepcopy", "pickle", "torch.save"}:
        for tensor in other.state_dict().values():
            tensor.zero_()
        assert_same(outputs(module, calls), before)
        assert all(same_bits(module.state_dict()[name], state[name]) for name in state)


@pytest.mark.parametrize("scheme", ["int4", "float8"])
@EVERY_CASE
@pytest.mark.parametrize("assign", [True, False])
def test_it_computes_with_a_state_loaded_into_it(case: Case, scheme: str, *, assign: bool):
    model, other_model = case.model(), case.model()
    module, other = quantized(model, scheme), quantized(other_model, scheme)
    calls = case.calls()
    outputs(module, calls)
    module.load_state_dict(other.state_dict(), strict=True, assign=assign)
    assert_same(outputs(module, calls), outputs(twin(other_model, other), calls))


@EVERY_SCHEME
@EVERY_CASE
def test_it_is_saved_and_loaded_bit_for_bit(case: Case, scheme: str, tmp_path: Path):
    model = case.model()
    result = quantizer(scheme).quantize(model)
    calls = case.calls()
    for suffix in ("safetensors", "pt"):
        path = tmp_path / f"model.{suffix}"
        result.save(path)
        loaded = quantizer(scheme).load(path, case.model)
        assert type(loaded.layer) is type(result.model.layer)
        assert list(loaded.state_dict()) == list(result.model.state_dict())
        assert_same(list(loaded.state_dict().values()), list(result.model.state_dict().values()))
        assert_same(outputs(loaded, calls), outputs(result.model, calls))


@pytest.mark.parametrize("scheme", ["int4", "float8"])
@EVERY_CASE
def test_its_file_needs_no_built_model_to_be_loaded_into(case: Case, scheme: str, tmp_path: Path):
    result = quantizer(scheme).quantize(case.model())
    result.save(tmp_path / "model.safetensors")
    calls = case.calls()
    with torch.device("meta"):
        skeleton = Holder(case.make())
    loaded = quantizer(scheme).load(tmp_path / "model.safetensors", skeleton)
    assert_same(outputs(loaded, calls), outputs(result.model, calls))


@EVERY_CASE
def test_writing_into_its_codes_is_followed(case: Case):
    model = case.model()
    module = quantized(model, "int8")
    calls = case.calls()
    outputs(module, calls)
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            tensor.copy_(tensor.flip(0))
        elif name.endswith("_scale"):
            tensor.mul_(2)
    assert_same(outputs(module, calls), outputs(twin(model, module), calls))


@EVERY_CASE
def test_writing_into_its_float_weight_is_no_way_to_change_it(case: Case):
    module = quantized(case.model(), "int8")
    calls = case.calls()
    before = outputs(module, calls)
    for name in module.layer.weight_specs:
        getattr(module.layer, name).zero_()
    assert_same(outputs(module, calls), before)


@EVERY_SCHEME
@EVERY_CASE
def test_float_weights_in_place_of_codes_are_refused(case: Case, scheme: str):
    model = case.model()
    module = quantized(model, scheme)
    calls = case.calls()
    before = outputs(module, calls)
    with pytest.raises(RuntimeError, match=r"is torch.float32: a quantized layer takes its torch\.\w+ codes only"):
        module.load_state_dict(model.state_dict(), strict=False)
    for name in module.layer.weight_specs:
        weight = torch.zeros_like(getattr(module.layer, name))
        for value in (weight, nn.Parameter(weight)):
            with pytest.raises(
                TypeError, match=f"'{name}' of this Quantized.* cannot be set to a torch.float32 tensor"
            ):
                setattr(module.layer, name, value)
    assert_same(outputs(module, calls), before)


@pytest.mark.parametrize("suffix", ["_scale", "_zero_point"])
@pytest.mark.parametrize("assign", [True, False])
def test_scales_and_zero_points_of_another_dtype_are_refused(suffix: str, *, assign: bool):
    module = quantized(Holder(nn.Linear(20, 4)), "int4")
    state = module.state_dict()
    name = f"layer.weight{suffix}"
    state[name] = state[name].to(torch.float64 if suffix == "_scale" else torch.int32)
    with pytest.raises(RuntimeError, match=f"{name} is torch.* takes its torch.* numbers only"):
        module.load_state_dict(state, assign=assign)


@pytest.mark.parametrize("change", ["missing", "unexpected", "misshaped"])
@EVERY_SCHEME
def test_a_state_that_does_not_fit_is_refused(scheme: str, change: str):
    module = quantized(Holder(nn.Linear(20, 4)), scheme)
    state = module.state_dict()
    if change == "missing":
        del state["layer.weight"]
    elif change == "unexpected":
        state["layer.weight_zeros"] = torch.zeros(4)
    else:
        state["layer.weight"] = state["layer.weight"][:2]
    with pytest.raises(RuntimeError, match=r"layer.weight"):
        module.load_state_dict(state, strict=True)


@EVERY_SCHEME
def test_a_pickle_holds_the_codes_and_not_the_float_weights(scheme: str):
    module = quantized(Holder(nn.LSTM(64, 128)), scheme)
    outputs(module, [(torch.randn(2, 64),)])
    assert FLOAT_CACHE.nbytes >= 4 * 4 * 128 * 192
    size = sum(tensor.nbytes for tensor in module.state_dict().values())
    file = io.BytesIO()
    torch.save(module, file)
    assert len(file.getvalue()) < size + 20_000


def test_what_is_kept_for_it_goes_with_it():
    before = FLOAT_CACHE.nbytes
    module = quantized(Holder(nn.LSTM(64, 128)), "int8")
    outputs(module, [(torch.randn(2, 64),)])
    assert FLOAT_CACHE.nbytes > before
    del module
    assert FLOAT_CACHE.nbytes == before


@pytest.mark.parametrize("case", [CASES["lstm-deep"], CASES["gru"]], ids=["lstm", "gru"])
def test_loading_and_moving_a_recurrent_layer_makes_none_of_its_weights_float(case: Case, tmp_path: Path):
    result = quantizer("int8").quantize(case.model())
    result.save(tmp_path / "model.safetensors")
    before = FLOAT_CACHE.nbytes
    loaded = quantizer("int8").load(tmp_path / "model.safetensors", case.model)
    loaded.load_state_dict(result.model.state_dict())
    loaded.load_state_dict(result.model.state_dict(), assign=True)
    for name in list(loaded.layer._parameters):
        setattr(loaded.layer, name, loaded.layer._parameters[name])
    assert FLOAT_CACHE.nbytes == before
    copies = [copy.deepcopy(loaded).half(), saved_and_loaded(loaded), loaded.to("cpu")]
    assert len(copies) == 3
    assert FLOAT_CACHE.nbytes == before


@EVERY_CASE
def test_eight_threads_can_call_one_module(case: Case):
    model = case.model()
    module = quantized(model, "int4")
    calls = case.calls()
    expected = outputs(twin(model, module), calls)
    wrong: list[object] = []

    def work() -> None:
        for step in range(6):
            try:
                if step % 3 == 2:
                    module.layer.repack()
                assert_same(outputs(module, calls), expected)
            except BaseException as error:  # noqa: BLE001 - shown in the main thread
                wrong.append(error)

    threads = [Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@EVERY_CASE
def test_on_meta_it_gives_shapes(case: Case):
    model = case.model()
    module = quantized(model, "int4").to("meta")
    for name in module.layer.weight_specs:
        weight = getattr(module.layer, name)
        assert (weight.device.type, weight.shape) == ("meta", getattr(model.layer, name).shape)
    assert all(tensor.is_meta for tensor in module.state_dict().values())


def test_a_linear_layer_on_meta_can_be_called():
    module = quantized(Holder(nn.Linear(20, 4)), "int4").to("meta")
    assert module(torch.randn(3, 20, device="meta")).shape == (3, 4)


def test_hooks_go_on_and_those_of_the_layer_itself_are_of_the_quantized_one():
    seen: list[nn.Module] = []

    class Hooked(nn.Linear):
        def __init__(self) -> None:
            super().__init__(20, 4)
            self.register_forward_hook(self.note)

        def note(self, module: nn.Module, *_: object) -> None:
            assert module is self
            seen.append(self)

    model = Holder(Hooked())
    model.layer.register_forward_pre_hook(lambda _, args: (args[0] * 2,))
    module = quantized(model, "int8")
    x = torch.randn(3, 20)
    with torch.no_grad():
        actual = module(x)
        plain = twin(model, module)
        assert seen == [module.layer]
        assert_same(actual, nn.functional.linear(2 * x, plain.layer.weight, plain.layer.bias))


def test_attributes_of_a_users_layer_are_copied_with_the_model():
    class Counting(nn.Linear):
        def __init__(self, mate: nn.Module) -> None:
            super().__init__(20, 4)
            self.calls = {"count": 0}
            self.mates = [mate]

        def forward(self, x: Tensor) -> Tensor:
            self.calls["count"] += 1
            return super().forward(x) + self.mates[0](x)

    mate = nn.Linear(20, 4)
    model = nn.ModuleList([mate, Counting(mate)])
    module = quantized(model, "int8")
    module[1](torch.randn(3, 20))
    assert (model[1].calls, module[1].calls) == ({"count": 0}, {"count": 1})
    assert module[1].mates[0] is module[0]
    assert isinstance(module[0], QuantizedModule)


def test_attention_is_the_same_after_copying_and_files(tmp_path: Path):
    for make, calls in ATTENTIONS.values():
        model = Holder(make()).eval()
        result = quantizer("int4").quantize(model)
        result.save(tmp_path / "model.safetensors")
        loaded = quantizer("int4").load(tmp_path / "model.safetensors", lambda make=make: Holder(make()))
        others = [copy.deepcopy(result.model), pickled(result.model), saved_and_loaded(result.model), loaded]
        for args, kwargs in calls():
            expected = result.model(*args, **kwargs)
            for other in others:
                assert_same(other(*args, **kwargs), expected)
