"""What is given in place of a float model, and refused in words that help."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_models import mlp, quantize, rows
from torch import nn

from mono_quant import Quantizer
from mono_quant.errors import ConfigurationError


def test_a_compiled_model_is_refused_with_what_to_give():
    for refuse in (lambda model: quantize(model, rows()), Quantizer().plan):
        with pytest.raises(
            ConfigurationError, match=r"the model is the result of torch\.compile: .* \(its \._orig_mod\)"
        ):
            refuse(torch.compile(mlp(), backend="eager"))


def test_a_compiled_part_of_a_model_is_named():
    model = nn.Sequential(mlp(), torch.compile(mlp(), backend="eager"))
    with pytest.raises(ConfigurationError, match=r"layer '1' of this Sequential is the result of torch\.compile"):
        quantize(model, rows())


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda: nn.Linear(8, 8, device="meta"), "the weight of this Linear"),
        (lambda: nn.Sequential(mlp(), nn.Linear(8, 8, device="meta")), "the weight of layer '1'"),
        (lambda: nn.Sequential(mlp(), nn.BatchNorm1d(8, affine=False, device="meta")), "the running_mean of layer '1'"),
    ],
)
@pytest.mark.parametrize("scheme", ["int8-static", "int8-weight-only"])
def test_a_model_on_meta_is_refused_with_the_layer_s_name(make: Callable[[], nn.Module], where: str, scheme: str):
    with pytest.raises(ConfigurationError, match=f"{where} is on the device 'meta'.*load"):
        quantize(make(), rows(), scheme=scheme)


def test_a_model_on_meta_can_be_planned():
    assert list(Quantizer().plan(nn.Linear(8, 8, device="meta")).layers) == [""]


def test_a_class_that_needs_arguments_is_refused_when_a_file_is_loaded(tmp_path: Path):
    quantize(mlp(), rows()).save(tmp_path / "model.safetensors")
    with pytest.raises(ConfigurationError, match=r"model=Linear is called without arguments .*failed with TypeError"):
        Quantizer().load(tmp_path / "model.safetensors", nn.Linear)
    with pytest.raises(ConfigurationError, match="gave a NoneType"):
        Quantizer().load(tmp_path / "model.safetensors", lambda: None)
