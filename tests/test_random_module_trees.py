"""Quantize, save, load and compare, on random trees of every kind of module."""

import copy
import tempfile
from fnmatch import translate
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from runnable_trees import SIZE, runnable_models
from safetensors import safe_open
from torch import Tensor, nn

from mono_quant import QuantizationResult, Quantizer
from mono_quant.core.tensors import same_bits
from mono_quant.errors import ConfigurationError
from mono_quant.modules import QuantizedModule, to_float
from mono_quant.plugin_api import LayerPlan

SCHEMES: dict[str, Any] = {
    "int8-static": "int8-static",
    "int8-dynamic": "int8-dynamic",
    "int8-weight-only": "int8-weight-only",
    "int4-weight-only": {"name": "int4-weight-only", "group_size": 4, "misfit": "pad"},
    "int3-symmetric": {"name": "int3-weight-only", "symmetric": True, "granularity": "per-tensor"},
    "float8-weight-only": "float8-weight-only",
    "float16": "float16",
    "bfloat16": "bfloat16",
}
# what torch says of a prototype that its own encoder uses
pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage:UserWarning")


def batches() -> list[Tensor]:
    return [torch.randn(5, SIZE) for _ in range(2)]


def run(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x)


def everything(model: nn.Module) -> dict[str, object]:
    """What must be the same afterwards."""
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    modules = dict(model.named_modules(remove_duplicate=False))
    return {
        "tensors": {name: (id(tensor), tensor.detach().clone(), tensor.requires_grad) for name, tensor in tensors},
        "modules": {name: (id(module), type(module), module.training) for name, module in modules.items()},
        "hooks": {name: dict(module._forward_hooks) for name, module in modules.items()},
    }


def assert_untouched(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert (before["modules"], before["hooks"]) == (after["modules"], after["hooks"])
    assert before["tensors"].keys() == after["tensors"].keys()
    for name, (identity, tensor, requires_grad) in before["tensors"].items():
        assert after["tensors"][name][0] == identity
        assert after["tensors"][name][2] == requires_grad
        assert same_bits(after["tensors"][name][1], tensor)


def garbled(model: nn.Module) -> nn.Module:
    """Another instance of the model's class: the same structure, other numbers."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for tensor in other.state_dict().values():
            tensor.fill_(1)
    return other


def overrides_for(model: nn.Module, data: st.DataObject, scheme: Any) -> dict[str, Any]:  # noqa: ANN401
    """Other schemes, or none, for some of the layers that the plan quantizes."""
    names = list(Quantizer(scheme, validators=()).plan(model).layers)
    choice = st.sampled_from([None, *SCHEMES.values()])
    chosen = data.draw(st.dictionaries(st.sampled_from(names), choice, max_size=4)) if names else {}
    return {
        f"re:{translate(name.replace('[', '[[]'))}": None if change is None else {"scheme": change}
        for name, change in chosen.items()
    }


def stored_bytes(path: Path) -> dict[str, int]:
    """Tensor name → its bytes in the file, read by safetensors alone."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).nbytes for name in file.keys()}  # noqa: SIM118 - no mapping


def assert_ledger_adds_up(model: nn.Module, result: QuantizationResult, path: Path) -> None:
    plan = result.plan
    distinct = {id(parameter): parameter for parameter in model.parameters()}
    assert plan.parameter_bytes == sum(parameter.nbytes for parameter in distinct.values())
    on_disk = stored_bytes(path)
    for entry in plan.entries:
        if isinstance(entry.decision, LayerPlan):
            own = [size for name, size in on_disk.items() if name.rpartition(".")[0] == entry.name]
            assert entry.bytes_after == sum(own), entry
    persistent = {
        id(tensor): tensor.nbytes
        for name, tensor in model.state_dict(keep_vars=True).items()
        if not isinstance(tensor, nn.Parameter) and not is_inside(name, result)
    }
    folded = set(plan.removed)
    assert not folded
    assert sum(entry.bytes_after for entry in plan.entries) + sum(persistent.values()) == sum(on_disk.values())


def is_inside(tensor: str, result: QuantizationResult) -> bool:
    return tensor.rpartition(".")[0] in result.plan.layers


def is_tied_in_two_ways(quantizer: Quantizer, model: nn.Module) -> bool:
    """Whether the overrides, drawn for each layer by itself, ask for something that is refused."""
    try:
        quantizer.plan(model)
    except ConfigurationError as error:
        return "which would be quantized in two ways" in str(error)
    return False


@given(model=runnable_models(), name=st.sampled_from(sorted(SCHEMES)), is_mixed=st.booleans(), data=st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_a_random_model_is_quantized_saved_and_loaded_bit_for_bit(
    *, model: nn.Module, name: str, is_mixed: bool, data: st.DataObject
):
    scheme = SCHEMES[name]
    options: dict[str, Any] = {"algorithms": (), "validators": (), "show_progress": False}
    options["overrides"] = overrides_for(model, data, scheme) if is_mixed else None
    quantizer = Quantizer(scheme, kernel=data.draw(st.sampled_from(["auto", "reference", "dequantize"])), **options)
    assume(not is_tied_in_two_ways(quantizer, model) and quantizer.plan(model).layers)
    event(f"{name}, mixed" if is_mixed else name)
    inputs = batches()
    before, expected = everything(model), run(model, inputs[0])

    result = quantizer.quantize(model, inputs)

    assert_untouched(before, everything(model))
    assert same_bits(run(model, inputs[0]), expected)
    quantized = result.model
    assert {name for name, module in quantized.named_modules() if isinstance(module, QuantizedModule)} == set(
        result.plan.layers
    )
    outputs = [run(quantized, x) for x in inputs]
    assert all(output.shape == expected.shape and output.isfinite().all() for output in outputs)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        result.save(path)
        loaded = quantizer.load(path, garbled(model))
        assert_ledger_adds_up(model, result, path)
        assert list(loaded.state_dict()) == list(quantized.state_dict())
        for key, tensor in quantized.state_dict().items():
            assert same_bits(loaded.state_dict()[key], tensor), key
        # Copied out of the file's memory map: the last bit of a float layer depends on where its weight begins.
        for other in (copy.deepcopy(loaded), copy.deepcopy(quantized)):
            assert all(same_bits(run(other, x), output) for x, output in zip(inputs, outputs, strict=True))

    floated = to_float(quantized)
    assert list(floated.state_dict()) == list(model.state_dict())
    assert [type(module) for module in floated.modules()] == [type(module) for module in model.modules()]
    ties = {id(parameter) for parameter in floated.parameters()}
    assert len(ties) <= len(set(map(id, model.parameters()))) or is_mixed
    assert run(floated, inputs[0]).isfinite().all()
