"""The earlier plan, item by item: files and what users hand over."""

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

import mono_quant
from mono_quant.errors import ArtifactError, ConfigurationError
from mono_quant.io import (
    _detect_input_format,
    _prepare_model,
    _validate_model,
    load_model,
    load_pytorch,
    load_safetensors,
    save_model,
    save_pytorch,
    save_safetensors,
)

X = torch.randn(4, 10)
SUFFIXES = pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
BY_NAME = pytest.mark.parametrize(
    ("save", "load"), [(save_safetensors, load_safetensors), (save_pytorch, load_pytorch)], ids=["safetensors", "pt"]
)


def quantized_model() -> nn.Module:
    model = nn.Sequential(nn.Linear(10, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 5))
    return mono_quant.static_quantize(model, [X], on_failure="ignore")[0]


def check_same(state: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert {name: tensor.dtype for name, tensor in state.items()} == {name: other[name].dtype for name in other}
    assert [name for name, tensor in state.items() if not torch.equal(tensor, other[name])] == []


@SUFFIXES
def test_a_quantized_model_comes_back_as_the_state_dict_that_it_accepts(suffix: str, tmp_path: Path):
    model, other = quantized_model(), quantized_model()
    save_model(model, tmp_path / f"model{suffix}")
    other.load_state_dict(load_model(tmp_path / f"model{suffix}"), strict=True)
    check_same(other.state_dict(), model.state_dict())
    assert torch.equal(other(X), model(X))


@SUFFIXES
def test_a_state_dict_is_saved_as_it_is(suffix: str, tmp_path: Path):
    state = {"weight": torch.randn(3, 2), "codes": torch.tensor([[-128, 127]], dtype=torch.int8), "half": X.half()}
    save_model(state, str(tmp_path / f"state{suffix}"))
    check_same(load_model(str(tmp_path / f"state{suffix}")), state)


@SUFFIXES
def test_tied_tensors_come_back_under_all_their_names(suffix: str, tmp_path: Path):
    layer = nn.Linear(10, 10)
    save_model(nn.Sequential(layer, layer), tmp_path / f"tied{suffix}")
    assert set(load_model(tmp_path / f"tied{suffix}")) == {"0.weight", "0.bias", "1.weight", "1.bias"}


@BY_NAME
def test_a_format_can_be_named_whatever_the_file_is_called(
    save: Callable[..., None], load: Callable[..., dict[str, Tensor]], tmp_path: Path
):
    model = quantized_model()
    save(model, tmp_path / "model.bin")
    assert set(load(tmp_path / "model.bin")) == set(model.state_dict())


@BY_NAME
def test_a_file_of_something_else_is_refused(
    save: Callable[..., None], load: Callable[..., dict[str, Tensor]], tmp_path: Path
):
    del save
    (tmp_path / "model.bin").write_bytes(b"not a model at all")
    with pytest.raises(ArtifactError, match=r"model\.bin"):
        load(tmp_path / "model.bin")


@SUFFIXES
def test_a_file_that_is_not_there_is_refused(suffix: str, tmp_path: Path):
    with pytest.raises(ArtifactError, match="absent"):
        load_model(tmp_path / f"absent{suffix}")


def test_the_header_of_a_safetensors_file_describes_the_run_and_each_layer(tmp_path: Path):
    save_model(quantized_model(), tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        manifest: dict[str, Any] = json.loads(file.metadata()["mono_quant"])
    assert manifest["versions"].keys() >= {"mono-quant", "torch"}
    assert manifest["metrics"].keys() >= {"original_size_mb", "quantized_size_mb", "compression_ratio", "sqnr_db"}
    assert manifest["kept"] == {"2": "it has no parameters"}
    layers = manifest["layers"]
    assert {name: (layer["layer_type"], layer["weights"]["weight"]["shape"]) for name, layer in layers.items()} == {
        "0": ("Linear", [20, 10]),
        "3": ("Linear", [5, 20]),
    }
    assert layers["0"]["weights"] == {
        "weight": {
            "dtype": "int8",
            "symmetric": True,
            "granularity": "per-channel(0)",
            "is_dynamic": False,
            "shape": [20, 10],
            "float_dtype": "float32",
        }
    }
    assert layers["0"]["input"] == {
        "dtype": "uint8",
        "symmetric": False,
        "granularity": "per-tensor",
        "is_dynamic": False,
    }


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (nn.Linear(1, 1), "module"),
        (nn.Linear(1, 1).state_dict(), "state_dict"),
        (OrderedDict(a=torch.ones(1)), "state_dict"),
        ("model.pt", "path"),
        (Path("model.safetensors"), "path"),
    ],
    ids=["module", "state_dict", "mapping", "text", "path"],
)
def test_what_a_model_was_given_as_is_detected(model: object, expected: str):
    assert _detect_input_format(model) == expected


@pytest.mark.parametrize("model", [None, 3, {"a": 1}, [torch.ones(1)], torch.ones(1)], ids=repr)
def test_what_is_no_model_is_refused(model: object):
    with pytest.raises(ConfigurationError, match=type(model).__name__):
        _detect_input_format(model)


def test_a_prepared_model_is_a_copy_in_eval_mode():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).train()
    prepared = _prepare_model(model)
    assert (prepared.training, model.training) == (False, True)
    assert prepared[0].weight is not model[0].weight
    assert torch.equal(prepared[0].weight, model[0].weight)


@pytest.mark.parametrize("model", [nn.ReLU(), "model.pt", {"weight": torch.ones(1)}], ids=["empty", "path", "state"])
def test_only_a_module_with_parameters_is_valid(model: object):
    _validate_model(nn.Linear(1, 1))
    with pytest.raises(ConfigurationError):
        _validate_model(model)
