"""What the owner of a model is told after a run."""

import pytest
import torch
from torch import nn

from mono_quant import Quantizer, hookimpl
from mono_quant.info import QuantizationInfo
from mono_quant.plugin_api import Kernel, KernelSpec, QuantizedOp, Support


def told(model: nn.Module, data: list[torch.Tensor] | None, scheme: object = "int8-static", **options: object) -> str:
    info: QuantizationInfo = Quantizer(scheme, on_failure="ignore", **options).quantize(model, data).info
    return "\n".join(info.warnings)


def mlp(width: int = 64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
    )


def test_low_sqnr_names_the_output_layer_when_everything_is_quantized():
    said = told(mlp(), [torch.randn(32, 64)], {"name": "int2-weight-only", "group_size": 64})
    assert "the output layer too: try exclude=['4'] (--exclude 4)" in said


def test_low_sqnr_points_at_the_layers_when_some_are_float():
    said = told(mlp(), [torch.randn(32, 64)], {"name": "int2-weight-only", "group_size": 64}, exclude=["4"])
    assert "keep the layers of lowest SQNR in float" in said


def test_low_sqnr_of_linear_layers_points_at_outliers_of_their_inputs():
    torch.manual_seed(0)
    model = mlp()
    with torch.no_grad():
        model[0].weight[3] *= 3000
        model[2].weight[:, 3] /= 3000
    said = told(model, [torch.randn(32, 64)])
    assert "try algorithms=['bn-fold', 'smoothquant'] (--algorithm bn-fold --algorithm smoothquant)" in said
    assert "SQNR" not in told(model, [torch.randn(32, 64)], algorithms=["bn-fold", "smoothquant"])


def test_good_sqnr_is_not_mentioned():
    assert "SQNR" not in told(mlp(), [torch.randn(32, 64)])


def test_a_layer_with_one_huge_weight_is_named():
    model = mlp()
    per_tensor = {"name": "int4-weight-only", "granularity": "per-tensor"}
    assert "keep" not in told(model, None, per_tensor)
    with torch.no_grad():
        model[2].weight.copy_(torch.randn(64, 64) * 0.01)
        model[2].weight[0, 0] = 1.0
    assert "the weights of '2' keep" in told(model, None, per_tensor)


def test_few_rows_of_data_are_mentioned_for_static_ranges_alone():
    assert "ranges come from 3 rows of data in 1 batches" in told(mlp(), [torch.randn(3, 64)])
    assert "ranges come from" not in told(mlp(), [torch.randn(3, 64)], "int8-dynamic")
    assert "ranges come from" not in told(mlp(), [torch.randn(32, 64)])


def test_tiny_layers_among_larger_ones_are_named():
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    said = told(model, [torch.randn(32, 64)])
    assert "1 layers have fewer than 1024 weights ('2')" in said
    assert "fewer than 1024" not in told(model, [torch.randn(32, 64)], min_parameters=1024)


def test_what_keeps_a_model_large_is_named():
    model = nn.Sequential(nn.Embedding(1000, 64), nn.Linear(64, 64))
    said = told(model, [torch.randint(0, 1000, (4, 8))], "int8-dynamic")
    assert "times smaller of 4.0 that the codes could give: Embedding '0' alone keeps 0.24 MB in float" in said


def test_without_data_it_says_what_was_not_done():
    assert "no data was given" in told(mlp(), None, "int8-weight-only")


def test_without_data_it_says_what_can_go_wrong_where_weights_read_as_codes():
    assert "gets int8 codes" in told(mlp(), None, "int8-dynamic")
    assert "gets int8 codes" not in told(mlp(), None, "int8-weight-only")


def test_a_slow_model_is_not_blamed_on_inputs_that_stay_float():
    said = told(mlp(512), [torch.randn(64, 512)], "int8-weight-only", kernel="reference")
    assert "slower than float here" in said
    assert "weights alone are quantized" in said


class Failing(Kernel):
    """Says yes, and fails; says no to the last layer."""

    def supports(self, op: QuantizedOp, device: torch.device) -> Support:
        del device
        return Support.no("it is too narrow") if op.largest_sum < 1000 else Support()

    def pack(self, op: QuantizedOp):
        return op.no_such_attribute


class Plugin:
    @hookimpl
    def mono_quant_kernels(self):
        return [KernelSpec(name="failing", summary="", factory=Failing)]


def test_each_reason_why_a_kernel_that_was_asked_for_is_not_used_is_told_once():
    model = mlp()
    with torch.no_grad():
        model[4].weight.zero_()
    said = told(model, [torch.randn(32, 64)], kernel="failing", plugins=[Plugin()])
    assert "kernel 'failing' does not support 3 layers, which use another: ['0', '2', '4']: it failed with " in said
    assert (
        said.count("AttributeError: 'QuantizedOp' object has no attribute 'no_such_attribute'; it is too narrow") == 1
    )


def test_where_only_the_weight_is_quantized_the_reason_is_told_too():
    said = told(mlp(), [torch.randn(32, 64)], "int8-weight-only", kernel="onednn")
    assert "kernel 'onednn' does not support 3 layers, which use another: ['0', '2', '4']: its input is not" in said


@pytest.mark.parametrize("scheme", ["int8-weight-only", "int8-dynamic"])
def test_a_sound_run_of_large_layers_has_nothing_to_say_but_speed(scheme: str):
    said = told(mlp(128), [torch.randn(32, 128)], scheme)
    assert [line for line in said.splitlines() if "slower" not in line] == []
