"""Which figures give which hint."""

import math

import pytest
from torch import nn

from mono_quant import QuantizationConfig, Quantizer
from mono_quant.layer_report import LayerReport, layer_table, worst_layer
from mono_quant.layer_report.hints import hint_of
from mono_quant.plugin_api import LayerPlan


def plan(scheme: object = "int8-static", layer: nn.Module | None = None) -> LayerPlan:
    return Quantizer(scheme).plan(nn.Sequential(layer or nn.Linear(128, 8))).layers["0"]


def layer(**figures: object) -> LayerReport:
    known = {"name": "0", "layer_type": "Linear", "scheme": "int8-static", "weight": "", "input": "", "kernels": ()}
    counts = {"float_bytes": 0, "quantized_bytes": 0, "observer": "minmax", "weight_sqnr_db": 42.0}
    return LayerReport(**{**known, **counts, **figures})


def hint(
    scheme: object = "int8-static",
    algorithms: tuple[str, ...] = ("bn-fold",),
    *,
    is_tied: bool = False,
    **figures: object,
) -> str:
    return hint_of(layer(**figures), plan(scheme), QuantizationConfig(algorithms=algorithms), is_tied=is_tied)


@pytest.mark.parametrize("sqnr_db", [None, 30.0, 55.0, math.inf])
def test_a_good_output_needs_no_hint_whatever_else_is_measured(sqnr_db: float | None):
    assert not hint(output_sqnr_db=sqnr_db, saturation_percent=50.0, outlier_channels=3, shift_percent=90.0)


@pytest.mark.parametrize("observer", ["percentile", {"name": "percentile", "percentile": 90.0}], ids=str)
def test_a_clipped_input_speaks_against_its_observer(observer: object):
    text = hint(output_sqnr_db=20.0, saturation_percent=4.0, observer=observer)
    assert text == "4.0 % of its input is clipped: try observer 'mse' or 'minmax'"


def test_an_input_that_minmax_clips_speaks_for_more_data():
    assert hint(output_sqnr_db=20.0, saturation_percent=4.0).endswith("calibrate with more of the data")


@pytest.mark.parametrize(("observer", "cure"), [("mse", "'minmax'"), ("moving-average", "'mse' or 'minmax'")])
def test_an_observer_that_clips_is_not_named_as_its_own_cure(observer: str, cure: str):
    assert hint(output_sqnr_db=20.0, saturation_percent=4.0, observer=observer).endswith(f": try observer {cure}")


def test_without_an_observer_none_is_named():
    assert "observer" not in hint(output_sqnr_db=20.0, saturation_percent=4.0, range_used_percent=9.0, observer=None)


def test_layers_that_share_a_weight_are_left_by_algorithms_and_so_none_is_named():
    figures = {"output_sqnr_db": 18.0, "outlier_channels": 3, "input_channels": 9, "shift_percent": 90.0}
    assert "algorithm" in hint(**figures)
    assert "algorithm" not in hint(is_tied=True, **figures)
    assert "gptq" not in hint("int4-weight-only", is_tied=True, output_sqnr_db=18.0, weight_sqnr_db=19.0)


def test_where_nothing_is_known_of_the_weights_the_input_is_not_blamed():
    figures = {"output_sqnr_db": 20.0, "weight_sqnr_db": None}
    assert not hint(**figures)
    assert "clipped" in hint(**figures, saturation_percent=4.0)
    assert "few bits" in hint("int4-weight-only", **figures)


def test_outlier_channels_speak_for_smoothing_once():
    figures = {"output_sqnr_db": 20.0, "outlier_channels": 3, "input_channels": 128}
    assert hint(**figures) == "3 of 128 channels of its input are outliers: add the algorithm 'smoothquant'"
    assert "smoothquant" not in hint(algorithms=("smoothquant",), **figures)
    assert "smoothquant" not in hint(**figures, layer_type="Conv2d")


@pytest.mark.parametrize(("observer", "others"), [("minmax", "'mse'"), ("mse", "'histogram'")])
def test_a_range_that_is_hardly_used_speaks_for_an_observer_that_is_not_in_use(observer: str, others: str):
    text = hint(output_sqnr_db=20.0, range_used_percent=12.0, observer=observer)
    assert "in 12 % of the range" in text
    assert others in text
    assert f"observer '{observer}'" not in text


def test_a_constant_error_speaks_for_the_bias():
    text = hint(output_sqnr_db=20.0, shift_percent=80.0)
    assert text == "80 % of its error is the same in every row: add the algorithm 'bias-correction'"
    assert "bias" not in hint(output_sqnr_db=20.0, shift_percent=80.0, algorithms=("bias-correction",))


def test_else_rounding_the_input_is_named_where_the_weights_are_better():
    assert hint(output_sqnr_db=20.0).startswith("rounding its input loses the most")


def test_few_bits_speak_for_gptq_and_then_for_more_bits():
    figures = {"output_sqnr_db": 18.0, "weight_sqnr_db": 19.0}
    assert "'gptq'" in hint("int4-weight-only", **figures)
    for algorithm in ("gptq", "adaround"):
        assert hint("int4-weight-only", (algorithm,), **figures).endswith("use smaller groups or more bits there")


def test_one_scale_for_a_whole_weight_speaks_for_a_scale_a_channel():
    scheme = {"name": "int8-weight-only", "granularity": "per-tensor"}
    assert hint(scheme, output_sqnr_db=18.0, weight_sqnr_db=19.0).endswith("give each channel its own")


def test_bad_weights_and_outputs_that_are_not_finite_stay_in_float():
    assert hint(output_sqnr_db=18.0, weight_sqnr_db=19.0) == "its weights lose the most: keep it in float"
    assert "not finite" in hint(output_sqnr_db=math.nan)


def test_the_worst_layer_is_the_one_of_the_lowest_output_among_those_with_a_hint():
    layers = [
        layer(name="a", output_sqnr_db=20.0, hint="x"),
        layer(name="b", output_sqnr_db=12.0, hint="y"),
        layer(name="c", output_sqnr_db=5.0),
    ]
    assert worst_layer(layers) is layers[1]
    assert worst_layer([*layers, layer(name="d", output_sqnr_db=math.nan, hint="z")]).name == "d"
    assert worst_layer(layers[2:]) is None


def test_the_table_has_a_line_for_each_layer_and_a_dash_for_what_was_not_measured():
    lines = layer_table(
        [layer(output_sqnr_db=20.0, observer=None), layer(name="", outlier_channels=2, input_channels=9)]
    )
    assert len(lines.splitlines()) == 3
    assert lines.splitlines()[1].split() == ["0", "Linear", "int8-static", "-", "42.0", "20.0", "-", "-", "-"]
    assert lines.splitlines()[2].startswith("(model)")
    assert lines.splitlines()[2].endswith("2 of 9")
