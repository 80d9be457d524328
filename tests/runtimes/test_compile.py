"""``result.compile()`` and ``Quantizer.compile``."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mono_quant import Batch, QuantizationConfig, Quantizer
from mono_quant.errors import CalibrationError, CompilationError, ConfigurationError, UnknownPluginError
from mono_quant.plugin_api import Runtime, RuntimeSpec, hookimpl
from mono_quant.testing.models import batches, small_net


class Mine(Runtime):
    def __init__(self, *, times: int = 1) -> None:
        self.times = times

    def compile(self, model: nn.Module, *_: Batch) -> nn.Module:
        return nn.Sequential(model) if self.times == 1 else nn.Sequential(model, nn.Hardtanh())

    def details(self, compiled: nn.Module) -> str:
        return f"of {len(compiled)}"


class Plugin:
    @hookimpl
    def mono_quant_runtimes(self) -> list[RuntimeSpec]:
        return [RuntimeSpec(name="mine", summary="for a test", factory=Mine, aliases=("my-own",))]


@pytest.fixture
def quantizer() -> Quantizer:
    return Quantizer(validators=(), plugins=[Plugin()], show_progress=False)


def test_the_runtime_that_is_named_runs_the_model(quantizer: Quantizer):
    result = quantizer.quantize(small_net(), batches())
    compiled = result.compile("mine")
    assert (compiled.runtime, compiled.details, compiled.timings) == ("mine", "of 1", ())
    assert torch.equal(compiled(batches()[0]), result.model(batches()[0]))
    assert not compiled.training


def test_torch_runs_the_model_itself(quantizer: Quantizer):
    result = quantizer.quantize(small_net(), batches())
    assert result.compile("torch").model is result.model


def test_without_a_name_the_configuration_says_which(quantizer: Quantizer):
    pinned = Quantizer(validators=(), plugins=[Plugin()], runtime="mine")
    assert pinned.quantize(small_net(), batches()).compile().runtime == "mine"
    assert quantizer.quantize(small_net(), batches()).compile().timings, "auto measures"


def test_a_recipe_pins_it(tmp_path: Path):
    (tmp_path / "recipe.toml").write_text('runtime = { name = "mine", times = 1 }\nvalidators = []\n')
    config = QuantizationConfig.from_file(tmp_path / "recipe.toml")
    pinned = Quantizer.from_config(config, plugins=[Plugin()])
    assert pinned.quantize(small_net(), batches()).compile().runtime == "mine"


def test_options_are_given(quantizer: Quantizer):
    result = quantizer.quantize(small_net(), batches())
    with pytest.raises(CompilationError, match="runtime 'mine' does not give what the reference kernels give"):
        result.compile({"name": "mine", "times": 2})
    with pytest.raises(ConfigurationError, match="runtime 'mine' has no option 'none'"):
        result.compile({"name": "mine", "none": 2})


def test_an_unknown_name_is_refused_before_any_work(quantizer: Quantizer):
    result = quantizer.quantize(small_net(), batches())
    with pytest.raises(UnknownPluginError, match="no runtime is named 'mime'; there are: mine, torch, torch-compile"):
        result.compile("mime")
    with pytest.raises(UnknownPluginError, match="no runtime is named 'mime'"):
        Quantizer(runtime="mime").quantize(small_net(), batches())


def test_its_plugin_is_among_the_versions_when_it_is_pinned():
    result = Quantizer(validators=(), runtime="torch").quantize(small_net(), batches())
    assert set(result.info.versions) == {"mono-quant", "torch"}


def test_without_data_an_example_is_asked_for():
    result = Quantizer("int8-weight-only", validators=()).quantize(small_net())
    with pytest.raises(ConfigurationError, match="quantized without data: give example="):
        result.compile("torch")
    assert result.compile("torch", batches()[0]).runtime == "torch"


def test_an_example_is_what_an_item_of_calibration_data_is(quantizer: Quantizer):
    result = quantizer.quantize(small_net(), batches())
    x = batches()[0]
    for example in (x, (x, torch.zeros(8)), {"x": x}, Batch((x,))):
        assert result.compile("torch", example).runtime == "torch"
    with pytest.raises(CalibrationError, match="the example must be a tensor"):
        result.compile("mine", 3)
    with pytest.raises(CalibrationError, match="failed in SmallNet"):
        result.compile("torch", torch.randn(2, 5))


def test_the_users_batch_fn_reads_it():
    quantizer = Quantizer(validators=(), batch_fn=lambda item: item["x"])
    result = quantizer.quantize(small_net(), [{"x": x} for x in batches()])
    assert result.compile("torch", {"x": batches()[0]}).runtime == "torch"


def test_a_loaded_model_is_compiled_too(quantizer: Quantizer, tmp_path: Path):
    result = quantizer.quantize(small_net(), batches())
    result.save(tmp_path / "model.safetensors")
    loaded = quantizer.load(tmp_path / "model.safetensors", small_net())
    compiled = quantizer.compile(loaded, batches()[0], runtime="mine")
    assert torch.equal(compiled(batches()[1]), result.model(batches()[1]))


def test_gradients_are_not_recorded(quantizer: Quantizer):
    compiled = quantizer.quantize(small_net(), batches()).compile("mine")
    assert not compiled(batches()[0].requires_grad_()).requires_grad


def test_the_example_of_a_result_is_a_copy(quantizer: Quantizer):
    data = batches()
    result = quantizer.quantize(small_net(), data)
    data[0].fill_(torch.nan)
    assert result.compile("mine").runtime == "mine"


def test_a_model_in_train_mode_is_refused(quantizer: Quantizer):
    result = quantizer.quantize(small_net(), batches())
    result.model.head.train()
    with pytest.raises(ConfigurationError, match=r"call model.eval\(\) first"):
        result.compile("mine")
