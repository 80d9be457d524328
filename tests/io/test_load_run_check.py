"""The load-run check finds what is lost between saving and loading."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from planted import context, layer, only, quantized
from small_models import FEATURES
from torch import Tensor, nn
from torch.nn import functional

from mono_quant.errors import ArtifactError
from mono_quant.io.checks import LoadRunValidator

Harm = Callable[[nn.Module], object]


def batch() -> Tensor:
    return torch.randn(5, FEATURES)


def flip(model: nn.Module) -> None:
    layer(model).weight[0, 0] ^= 1


def minus_zero(model: nn.Module) -> None:
    model.more = -model.more


def other_dtype(model: nn.Module) -> None:
    model.more = model.more.double()


def other_shape(model: nn.Module) -> None:
    model.more = model.more[None]


@pytest.mark.parametrize(
    ("after_load", "words"),
    [
        (flip, "tensors differ after loading: 0.weight"),
        (minus_zero, "tensors differ after loading: more"),
        (other_dtype, "tensors differ after loading: more"),
        (other_shape, "tensors differ after loading: more"),
        (lambda model: model.register_buffer("extra", torch.ones(1)), r"tensors \['extra'\] are on one side only"),
        (lambda model: model.__delattr__("more"), r"tensors \['more'\] are on one side only"),
    ],
)
def test_a_model_that_loads_back_different_is_found(after_load: Harm, words: str):
    model = quantized()
    model.register_buffer("more", torch.zeros(2))
    finding = only(LoadRunValidator().validate(context(model, batch=batch(), after_load=after_load)), "load-run")
    assert finding.status == "failed"
    assert re.search(words, finding.message)


@pytest.mark.parametrize(
    "after_load",
    [
        lambda model: model.register_forward_hook(lambda _, __, y: y + 1e-6),
        lambda model: model.register_forward_hook(lambda _, __, y: (y, y)),
        lambda model: model.register_forward_hook(lambda _, __, y: y.double()),
        lambda model: model.register_forward_hook(lambda _, __, y: y[:1]),
    ],
    ids=["value", "structure", "dtype", "shape"],
)
def test_an_output_that_differs_after_loading_is_found(after_load: Harm):
    finding = only(LoadRunValidator().validate(context(quantized(), batch=batch(), after_load=after_load)), "load-run")
    assert (finding.status, finding.message) == (
        "failed",
        "the loaded model gives another output on the calibration batch",
    )


def test_nan_in_the_output_of_both_models_is_the_same():
    model = quantized()
    model.register_forward_hook(lambda _, __, y: y * math.nan)
    assert only(LoadRunValidator().validate(context(model, batch=batch())), "load-run").status == "passed"


def test_random_numbers_in_forward_are_the_same_in_both_runs():
    model = quantized()
    model.register_forward_hook(lambda _, __, y: functional.dropout(y, 0.5))
    checked = context(model, batch=batch())
    before = torch.random.get_rng_state()
    assert only(LoadRunValidator().validate(checked), "load-run").status == "passed"
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_file_that_cannot_be_loaded_is_a_finding():
    def refuse(_: nn.Module) -> None:
        message = "planted"
        raise ArtifactError(message)

    finding = only(LoadRunValidator().validate(context(quantized(), after_load=refuse)), "load-run")
    assert (finding.status, finding.message) == ("failed", "the model cannot be saved and loaded: planted")


def test_without_a_batch_tensors_alone_are_compared_and_the_finding_says_so():
    finding = only(LoadRunValidator().validate(context(quantized())), "load-run")
    assert finding.status == "passed"
    assert "outputs not compared" in finding.message
    assert only(LoadRunValidator().validate(context(quantized(), after_load=flip)), "load-run").status == "failed"


def test_the_file_of_the_check_is_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen = []
    LoadRunValidator().validate(context(quantized(), after_load=lambda _: seen.extend(tmp_path.rglob("*.safetensors"))))
    assert seen
    assert list(tmp_path.iterdir()) == []
