"""Where smoothing finds a place for its factor, and what the quantized model is worth then."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from outlier_nets import WIDTH, Block, PostNorm, RootMeanSquareNorm, ShiftedNorm, outliers, rows
from torch import Tensor, nn

from mono_quant import Quantizer
from mono_quant.core.sqnr import sqnr_db
from mono_quant.errors import ConfigurationError, PluginError
from mono_quant.plugin_api import Algorithm, AlgorithmSpec, Rewrite, hookimpl
from mono_quant.result import QuantizationResult


def quantized(net: nn.Module, **options: object) -> QuantizationResult:
    smoothing = {"name": "smoothquant", **options}
    return Quantizer(algorithms=[smoothing], show_progress=False, on_failure="ignore").quantize(net, rows())


def layers(result: QuantizationResult) -> list[tuple[str, ...]]:
    return [rewrite.layers for rewrite in result.plan.rewrites]


def output_db(net: nn.Module, result: QuantizationResult) -> float:
    x = torch.cat(rows())
    with torch.no_grad():
        return sqnr_db(net(x), result.model(x))


@pytest.mark.parametrize("norm", [lambda: nn.LayerNorm(WIDTH), lambda: RootMeanSquareNorm(WIDTH)])
def test_a_norm_that_only_the_layers_read_takes_their_factor(norm: Callable[[], nn.Module]):
    net = outliers(Block(norm()))
    result = quantized(net)
    assert ("norm", "gate", "up") in layers(result) or ("norm", "up", "gate") in layers(result)
    assert not hasattr(result.model.up, "input_factor")
    assert not torch.equal(result.model.norm.weight, net.norm.weight)


@pytest.mark.parametrize(
    "net", [PostNorm(nn.LayerNorm(WIDTH)), Block(ShiftedNorm(WIDTH))], ids=["read past", "shifted"]
)
def test_where_no_norm_can_take_it_each_layer_has_its_own(net: nn.Module):
    net = outliers(net)
    result = quantized(net)
    assert ("up",) in layers(result)
    assert ("gate",) in layers(result)
    assert result.model.up.input_factor.shape == (WIDTH,)
    assert torch.equal(result.model.norm.weight, net.norm.weight)


@pytest.mark.parametrize("norm", [nn.LayerNorm, RootMeanSquareNorm, ShiftedNorm])
@pytest.mark.parametrize("block", [Block, PostNorm])
@pytest.mark.parametrize("scheme", ["int8-static", "int8-dynamic"])
def test_outlier_channels_cost_ten_times_less(block: type[Block], norm: type[nn.Module], scheme: str):
    net = outliers(block(norm(WIDTH)))
    plain = Quantizer(scheme, algorithms=[], show_progress=False).quantize(net, rows())
    smoothed = Quantizer(scheme, algorithms=["smoothquant"], show_progress=False).quantize(net, rows())
    assert output_db(net, smoothed) > output_db(net, plain) + 10


def test_layers_that_read_the_same_tensor_have_one_factor():
    result = quantized(outliers(PostNorm(nn.LayerNorm(WIDTH))))
    assert torch.equal(result.model.up.input_factor, result.model.gate.input_factor)
    assert torch.equal(result.model.up.input_scale, result.model.gate.input_scale)


def test_the_user_can_forbid_multiplications_that_no_norm_takes():
    result = quantized(outliers(PostNorm(nn.LayerNorm(WIDTH))), insert=False)
    assert layers(result) == []


@pytest.mark.parametrize("alpha", [-0.1, 1.1, "much", None, float("nan")])
def test_an_alpha_that_is_none_is_refused(alpha: object):
    with pytest.raises(ConfigurationError, match="alpha"):
        Quantizer(algorithms=[{"name": "smoothquant", "alpha": alpha}]).quantize(
            outliers(Block(nn.LayerNorm(WIDTH))), rows()
        )


def test_data_that_can_be_read_once_are_refused_before_anything_runs():
    ran = []

    def batches() -> Iterator[Tensor]:
        ran.append(1)
        yield from rows()

    with pytest.raises(ConfigurationError, match=r"smoothquant .*read twice.*a generator can be read once.*list"):
        Quantizer(algorithms=["smoothquant"]).quantize(outliers(Block(nn.LayerNorm(WIDTH))), batches())
    assert ran == []


def test_the_ranges_are_those_of_the_inputs_after_smoothing():
    net = outliers(PostNorm(nn.LayerNorm(WIDTH)))
    result = quantized(net)
    with torch.no_grad():
        x = torch.cat([net.norm(x).reshape(-1, WIDTH) for x in rows()]) * result.model.up.input_factor
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    torch.testing.assert_close(float(result.model.up.input_scale), (high - low) / 255, rtol=1e-5, atol=0)


def test_a_weight_that_two_layers_share_is_left_alone():
    net = outliers(PostNorm(nn.LayerNorm(WIDTH)))
    net.gate.weight = net.up.weight
    assert not any({"up", "gate"} & set(rewrite) for rewrite in layers(quantized(net)))


def test_a_norm_that_somebody_watches_is_left_alone():
    net = outliers(Block(nn.LayerNorm(WIDTH)))
    seen: list[Tensor] = []
    net.norm.register_forward_hook(lambda *call: seen.append(call[-1].detach().clone()))
    result = quantized(net)
    assert torch.equal(result.model.norm.weight, net.norm.weight)


def test_the_float_model_is_left_as_it_was():
    net = outliers(PostNorm(nn.LayerNorm(WIDTH)))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    quantized(net)
    after = net.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert type(net.up) is nn.Linear


class Liar(Algorithm):
    """Says that it keeps the function, and does not."""

    changes_inputs = True

    def find(self, *watched: object) -> list[Rewrite]:
        del watched
        return [Rewrite(algorithm="liar", layers=("up",), removed={})]

    def apply(self, *rewrite: Any) -> dict[str, nn.Module]:  # noqa: ANN401
        dtype = rewrite[1]["up"].weight.dtype
        return {"up": nn.Linear(WIDTH, 24, dtype=dtype).eval()}


class LiarPlugin:
    @hookimpl
    def mono_quant_algorithms(self) -> list[AlgorithmSpec]:
        return [AlgorithmSpec(name="liar", summary="says what is not so", factory=Liar)]


def test_an_algorithm_that_changes_the_models_output_is_refused_by_name():
    with pytest.raises(PluginError, match="after the rewrites of liar the float model gives another output"):
        Quantizer(algorithms=["liar"], plugins=[LiarPlugin()]).quantize(outliers(Block(nn.LayerNorm(WIDTH))), rows())


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("scheme", ["int8-static", "int8-dynamic"])
def test_the_encoder_of_torch_keeps_its_function_off_its_fast_path(scheme: str, norm_first: bool):  # noqa: FBT001
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 32, batch_first=True, norm_first=norm_first)
    net = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    with torch.no_grad():
        for one in net.layers:
            one.norm1.weight[3] *= 40
            one.linear1.weight[:, 3] /= 40
    plain = Quantizer(scheme, algorithms=[], show_progress=False).quantize(net, rows())
    smoothed = Quantizer(scheme, algorithms=["smoothquant"], show_progress=False).quantize(net, rows())
    assert smoothed.plan.rewrites
    assert output_db(net, smoothed) >= output_db(net, plain) - 1


def test_a_reader_with_a_hook_on_its_input_has_a_factor_of_its_own():
    net = outliers(Block(nn.LayerNorm(WIDTH)))
    net.up.register_forward_pre_hook(lambda *call: (call[1][0].clamp(-5, 5),))
    result = quantized(net)
    assert all("norm" not in rewrite for rewrite in layers(result))


def test_a_model_in_train_mode_with_running_statistics_is_left_as_it_was():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 4)).train()
    Quantizer(algorithms=["smoothquant"], on_failure="ignore").quantize(net, [x[:, 0] for x in rows()])
    assert torch.equal(net[2].running_mean, torch.zeros(8))


def test_a_norm_that_needs_its_own_axes_or_arguments_is_no_failure():
    class Axes(RootMeanSquareNorm):
        def forward(self, x: Tensor) -> Tensor:
            _, _, _ = x.shape
            return super().forward(x)

    class Two(RootMeanSquareNorm):
        def forward(self, x: Tensor, scale: float) -> Tensor:
            return super().forward(x) * scale

    class WithTwo(Block):
        def forward(self, x: Tensor) -> Tensor:
            y = self.norm(x, 2.0)
            return x + self.down(torch.sigmoid(self.gate(y)) * self.up(y))

    assert any("norm" in rewrite for rewrite in layers(quantized(outliers(Block(Axes(WIDTH))))))
    assert all("norm" not in rewrite for rewrite in layers(quantized(outliers(WithTwo(Two(WIDTH))))))


def test_outputs_with_infinities_are_compared_where_they_are_finite():
    class Masked(Block):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).masked_fill(x > 1, -torch.inf)

    assert layers(quantized(outliers(Masked(nn.LayerNorm(WIDTH)))))


def test_another_function_in_half_precision_is_refused_too():
    net = outliers(Block(nn.LayerNorm(WIDTH))).bfloat16()
    halves = [x.bfloat16() for x in rows()]
    with pytest.raises(PluginError, match="gives another output"):
        Quantizer(algorithms=["liar"], plugins=[LiarPlugin()]).quantize(net, halves)


class Rectified(nn.Module):
    """A layer that another alone reads, through a ReLU; two of its rows are large."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(WIDTH, 24), nn.Linear(24, 8)
        with torch.no_grad():
            self.first.weight[[3, 8]] *= 60
            self.last.weight[:, [3, 8]] /= 60

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu())


def test_a_layer_before_takes_the_factor_as_a_norm_does():
    net = Rectified().eval()
    plain = Quantizer(algorithms=[], show_progress=False, validators=()).quantize(net, rows())
    result = quantized(net)
    assert ("first", "last") in layers(result)
    assert not hasattr(result.model.last, "input_factor")
    assert output_db(net, result) > output_db(net, plain) + 10


def test_layers_whose_inputs_another_algorithm_has_changed_are_left():
    net = Rectified().eval()
    algorithms = ["cross-layer-equalization", "smoothquant"]
    scheme = {"name": "int8-static"}
    found = Quantizer(scheme, algorithms=algorithms, show_progress=False, validators=()).quantize(net, rows())
    by = {rewrite.algorithm for rewrite in found.plan.rewrites if "last" in rewrite.layers}
    assert len(by) == 1


def test_named_twice_it_does_nothing_the_second_time():
    net = outliers(PostNorm(nn.LayerNorm(WIDTH)))
    twice = Quantizer(algorithms=["smoothquant"] * 2, show_progress=False, validators=()).quantize(net, rows())
    assert layers(twice) == layers(quantized(net))


def test_a_norm_that_counts_its_calls_takes_the_factor_and_counts_none_of_the_trials():
    class Counts(RootMeanSquareNorm):
        def __init__(self, width: int) -> None:
            super().__init__(width)
            self.register_buffer("calls", torch.zeros(()))
            self.seen = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            self.seen += 1
            return super().forward(x)

    net = outliers(Block(Counts(WIDTH)))
    assert any("norm" in rewrite for rewrite in layers(quantized(net)))
    assert (net.norm.calls, net.norm.seen) == (0, 0)


def test_what_scales_with_its_weight_for_some_inputs_alone_takes_no_factor():
    torch.manual_seed(0)
    net = nn.Sequential(nn.PReLU(WIDTH), nn.Linear(WIDTH, 24)).eval()
    batches = [torch.randn(8, WIDTH) * torch.logspace(0, 2, WIDTH) for _ in range(4)]
    batches[0] = -batches[0].abs()  # all that there is to try it on is multiplied by the weight
    result = Quantizer("int8-dynamic", algorithms=["smoothquant"], show_progress=False).quantize(net, batches)
    assert layers(result) == [("1",)]
    assert sqnr_db(net(batches[1]), result.model(batches[1])) > 30


@pytest.mark.parametrize("before", [nn.Identity, lambda: nn.LayerNorm(WIDTH)], ids=["alone", "norm"])
def test_a_layer_whose_bias_is_no_parameter_is_left_alone(before: Callable[[], nn.Module]):
    torch.manual_seed(0)
    net = nn.Sequential(before(), nn.Linear(WIDTH, 24)).eval()
    bias = net[1].bias.detach()
    del net[1].bias
    net[1].register_buffer("bias", bias)
    batches = [torch.randn(8, WIDTH) * torch.logspace(0, 2, WIDTH) for _ in range(4)]
    result = Quantizer("int8-dynamic", algorithms=["smoothquant"], show_progress=False).quantize(net, batches)
    assert not layers(result)


def test_a_norm_of_one_number_for_all_channels_takes_no_factor():
    class ScaleNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.full((1,), 3.0))

        def forward(self, x: Tensor) -> Tensor:
            return self.weight * x / x.norm(dim=-1, keepdim=True)

    torch.manual_seed(0)
    net = nn.Sequential(ScaleNorm(), nn.Linear(WIDTH, 24)).eval()
    batches = [torch.randn(8, WIDTH) * torch.logspace(0, 2, WIDTH) for _ in range(4)]
    result = Quantizer("int8-dynamic", algorithms=["smoothquant"], show_progress=False).quantize(net, batches)
    assert layers(result) == [("1",)]
