"""Options: kernels, components by name, and what cannot be meant."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from small_models import FEATURES, ConvNet, images, mlp, quantize, quantized_names, rows, run
from torch import nn

from mono_quant import QuantizationConfig, Quantizer
from mono_quant.errors import CalibrationError, ConfigurationError, PluginError, UnknownPluginError


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"observer": "none-such"}, "observer"),
        ({"observer": {"name": "none-such", "k": 3}}, "observer"),
        ({"scheme": "none-such"}, "scheme"),
        ({"kernel": "none-such"}, "kernel"),
        ({"validators": ["sqnr", "none-such"]}, "validator"),
        ({"algorithms": ["none-such"]}, "algorithm"),
        ({"source": "none-such"}, "source"),
    ],
    ids=str,
)
def test_an_unknown_name_is_refused_before_any_data_is_drawn(options: Mapping[str, object], kind: str):
    drawn = []
    with pytest.raises(UnknownPluginError, match=rf"{kind}.*none-such"):
        quantize(mlp(), (drawn.append(x) or x for x in rows()), **options)
    assert drawn == []


@pytest.mark.parametrize("kept", [None, "*"], ids=["some layers", "no layer"])
@pytest.mark.parametrize("scheme", ["int8-static", "int8-dynamic"])
def test_an_unknown_observer_is_refused_when_planning_whatever_the_scheme_needs(scheme: str, kept: str | None):
    with pytest.raises(
        UnknownPluginError, match=r"no observer is named 'minmaks'; there are: absmax, histogram, minmax, "
    ):
        Quantizer(scheme, observer="minmaks", exclude=kept).plan(mlp())


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        ({"scheme": "int8-statik"}, "int8-static"),
        ({"observer": "minmaks"}, "minmax"),
        ({"kernel": "fbgem"}, "fbgemm"),
        ({"validators": ["sqrn"]}, "sqnr"),
    ],
    ids=str,
)
def test_a_misspelt_name_is_refused_with_the_one_that_was_meant(options: Mapping[str, object], meant: str):
    with pytest.raises(UnknownPluginError, match=rf"; did you mean '{meant}'\?$"):
        Quantizer(**options).plan(mlp())


def test_an_override_that_is_a_scheme_alone_is_refused_with_how_to_say_it():
    with pytest.raises(ConfigurationError, match=r'a scheme is asked for as {"scheme": "int8-dynamic"}$'):
        Quantizer(overrides={"0": "int8-dynamic"})
    with pytest.raises(ConfigurationError, match=r"did you mean 'float'\?$"):
        Quantizer(overrides={"0": "flaot"})


def test_a_file_is_loaded_by_a_quantizer_whose_other_names_are_unknown(tmp_path: Path):
    model = mlp()
    quantize(model, rows()).save(tmp_path / "model.safetensors")
    loaded = Quantizer(observer="none-such", validators=["none-such"]).load(tmp_path / "model.safetensors", model)
    assert quantized_names(loaded) == ["0", "2"]


@pytest.mark.parametrize(
    "options",
    [
        {"num_samples": 0},
        {"num_samples": -1},
        {"num_samples": 1.5},
        {"num_samples": True},
        {"on_failure": "raise"},
        {"on_failure": None},
        {"observer": 3},
        {"observer": {"k": 3}},
        {"validators": [None]},
        {"include": [3]},
        {"exclude": "re:("},
    ],
    ids=str,
)
def test_an_option_that_cannot_be_meant_is_refused(options: Mapping[str, object]):
    with pytest.raises(ConfigurationError):
        Quantizer(**options)


def test_an_unknown_option_of_a_component_is_refused_with_those_that_exist():
    with pytest.raises((ConfigurationError, PluginError), match="minimum"):
        quantize(mlp(), rows(), validators=[{"name": "sqnr", "least": 3.0}])


def test_missing_data_is_an_error_that_says_what_to_give():
    with pytest.raises(ConfigurationError, match=r"needs calibration_data: the inputs of 2 layers"):
        quantize(mlp(), None)


@pytest.mark.parametrize("data", ["text", {"x": 1}, 3, nn.Linear(1, 1)], ids=repr)
def test_data_that_no_source_reads_is_an_error(data: object):
    with pytest.raises(CalibrationError, match="no source reads"):
        quantize(mlp(), data)


def test_no_more_than_num_samples_batches_are_drawn():
    drawn = []
    result = quantize(mlp(), (drawn.append(x) or x for x in rows(9)), num_samples=4)
    assert result.info.calibration_samples_used == len(drawn) == 4


@pytest.mark.parametrize("kernel", ["reference", "onednn"])
def test_the_kernel_that_was_asked_for_runs_every_layer_that_it_supports(kernel: str):
    result = quantize(ConvNet(), images(), kernel=kernel)
    assert set(result.info.kernels) == {"conv", "head"}
    assert set(result.info.kernels.values()) == {(kernel,)}
    assert not [warning for warning in result.info.warnings if "kernel" in warning]


def test_a_kernel_that_does_not_support_a_layer_is_replaced_with_a_warning():
    result = quantize(ConvNet(), images(), kernel="fbgemm")
    assert result.info.kernels["head"] == ("fbgemm",)
    assert "fbgemm" not in result.info.kernels["conv"]
    (told,) = [w for w in result.info.warnings if w.startswith("kernel 'fbgemm' does not support 1 layers")]
    assert told.endswith("which use another: ['conv']: fbgemm convolutions give integers, not floats")


def test_automatic_kernels_are_not_the_reference_and_give_its_numbers():
    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Linear(FEATURES, 5)), rows()
    fast = quantize(model, data)
    slow = quantize(model, data, kernel="reference")
    used = {name for names in fast.info.kernels.values() for name in names}
    assert used
    assert used <= {"fbgemm", "onednn"}
    expected = run(slow.model, data[0])
    # sums of integers are exact; then a scale is multiplied in and a bias added, a few roundings of float32
    torch.testing.assert_close(run(fast.model, data[0]), expected, rtol=0, atol=2**-20 * float(expected.abs().max()))


def test_without_validators_nothing_is_validated():
    result = quantize(mlp(), rows(), validators=())
    assert result.validation is None
    assert result.info.sqnr_db is None
    assert result.info.compression_ratio is None


def test_an_option_that_is_a_function_does_not_stop_the_file(tmp_path: Path):
    result = quantize(mlp(), rows(), source={"name": "dataloader", "batch_fn": halved})
    result.save(tmp_path / "model.safetensors")
    assert result.validation.load_test_passed


def halved(x: torch.Tensor) -> torch.Tensor:
    return x / 2


def test_a_quantizer_from_a_whole_configuration_does_the_same():
    torch.manual_seed(0)
    model, data = mlp(), rows()
    config = QuantizationConfig(exclude=["2"], kernel="reference", num_samples=2)
    one = Quantizer.from_config(config, show_progress=False).quantize(model, data)
    other = quantize(model, data, exclude=["2"], kernel="reference", num_samples=2)
    assert one.info.selected_layers == ("0",)
    assert one.info.calibration_samples_used == 2
    assert torch.equal(run(one.model, data[0]), run(other.model, data[0]))


def test_the_figures_of_the_run_are_complete():
    info = quantize(ConvNet(), images()).info
    assert info.selected_layers == ("conv", "head")
    assert info.folded_layers == {"bn": "conv"}
    assert info.skipped_layers == {}
    assert (info.dtype, info.symmetric) == ("int8", True)
    assert info.compression_ratio == info.original_size_mb / info.quantized_size_mb
    assert {"mono-quant", "torch"} <= set(info.versions)
    assert info.speedup == info.original_latency_ms / info.quantized_latency_ms


def test_a_model_too_small_to_get_smaller_is_quantized_with_a_warning():
    result = Quantizer().quantize(nn.Sequential(nn.Linear(1, 1)), [torch.randn(4, 1)])
    assert result.info.compression_ratio < 1
    assert any("not smaller" in warning for warning in result.info.warnings)
