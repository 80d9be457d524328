"""Where AWQ finds a place for its factor, and what the quantized model is worth then."""

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from salient_nets import WIDTH, Block, Chain, PostNorm, rows, salient
from torch import Tensor, nn

from mono_quant import Quantizer
from mono_quant.core.sqnr import sqnr_db
from mono_quant.core.tensors import same_bits
from mono_quant.errors import ConfigurationError
from mono_quant.modules import LinearByKernel
from mono_quant.result import QuantizationResult

INT4 = {"name": "int4-weight-only", "group_size": 16}
SCHEMES: list[Any] = [
    INT4, {**INT4, "symmetric": True}, {"name": "int3-weight-only", "group_size": 20, "misfit": "pad"},
    {"name": "int4-weight-only", "granularity": "per-channel"}, "int8-weight-only",
]  # fmt: skip


def quantized(net: nn.Module, *algorithms: str, scheme: Any = INT4, **options: object) -> QuantizationResult:  # noqa: ANN401
    wanted = [{"name": name, **(options if name == "awq" else {})} for name in algorithms]
    quantizer = Quantizer(scheme, algorithms=wanted, kernel="dequantize", show_progress=False, validators=())
    return quantizer.quantize(net, rows())  # not by a kernel that rounds to bfloat16, where that is faster


def places(result: QuantizationResult) -> list[tuple[str, ...]]:
    return [rewrite.layers for rewrite in result.plan.rewrites]


def output_db(net: nn.Module, result: QuantizationResult) -> float:
    x = torch.cat(rows())
    with torch.no_grad():
        return sqnr_db(net(x), result.model(x))


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("make", [Block, PostNorm, Chain])
def test_weights_that_meet_large_inputs_cost_less(make: type[nn.Module], scheme: Any):  # noqa: ANN401
    net = salient(make())
    plain, found = (quantized(net, *names, scheme=scheme) for names in ((), ("awq",)))
    assert output_db(net, found) > output_db(net, plain) + 1.5


def test_int4_of_a_few_large_channels_costs_far_less_than_the_nearest_codes():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 48)).eval()
    data = [torch.randn(64, 64) for _ in range(4)]
    for x in data:
        x[:, [3, 40]] *= 50
    scheme = {"name": "int4-weight-only", "group_size": 64}
    results = [
        Quantizer(scheme, algorithms=names, show_progress=False, validators=()).quantize(net, data)
        for names in ([], ["awq"])
    ]
    x = torch.cat(data)
    plain, found = (sqnr_db(net(x), result.model(x)) for result in results)
    assert found > plain + 4


@pytest.mark.parametrize("scheme", [*SCHEMES, "float8-weight-only"], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_it_is_never_worse_on_the_data(scheme: Any, seed: int):  # noqa: ANN401
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(WIDTH, 24)).eval()
    x = torch.cat(rows())
    plain, found = (quantized(net, *names, scheme=scheme).model for names in ((), ("awq",)))
    with torch.no_grad():
        assert sqnr_db(net(x), found(x)) >= sqnr_db(net(x), plain(x))


def test_a_norm_that_only_the_layers_read_takes_their_factor():
    net = salient(Block())
    result = quantized(net, "awq", insert=False)
    assert places(result) in ([("norm", "up", "gate")], [("norm", "gate", "up")])
    assert not torch.equal(result.model.norm.weight, net.norm.weight)
    assert not hasattr(result.model.up, "input_factor")


def test_where_no_norm_can_take_it_each_layer_has_it_and_a_kernel():
    net = salient(PostNorm())
    result = quantized(net, "awq")
    assert {("up",), ("gate",)} <= set(places(result))
    assert torch.equal(result.model.up.input_factor, result.model.gate.input_factor)
    assert torch.equal(result.model.norm.weight, net.norm.weight)
    with torch.no_grad():
        result.model(rows()[0])
    assert isinstance(result.model.up, LinearByKernel)
    assert result.model.up.kernels_in_use
    assert places(quantized(net, "awq", insert=False)) == []


@pytest.mark.parametrize("between", [nn.ReLU(), nn.Identity(), nn.LeakyReLU(0.1), nn.PReLU(), nn.Dropout(0.5)])
def test_a_layer_before_takes_the_factor_through_what_is_homogeneous(between: nn.Module):
    data = [x.flatten(0, 1) for x in rows()]  # channels of a PReLU run along the second axis
    result = Quantizer(INT4, algorithms=["awq"], show_progress=False, validators=()).quantize(
        salient(Chain(between=between)), data
    )
    assert places(result) == [("first", "last")]
    assert not hasattr(result.model.last, "input_factor")


@pytest.mark.parametrize("between", [nn.GELU(), nn.ReLU6(), nn.Sigmoid()])
def test_what_is_not_homogeneous_keeps_the_layer_before_out_of_it(between: nn.Module):
    assert ("first", "last") not in places(quantized(salient(Chain(between=between)), "awq"))


def test_a_layer_before_whose_rows_share_a_scale_stays():
    scheme = {"name": "int4-weight-only", "granularity": "per-tensor"}
    assert ("first", "last") not in places(quantized(salient(Chain()), "awq", scheme=scheme))


def test_a_layer_before_keeps_its_codes():
    net = salient(Chain())
    plain, found = (quantized(net, *names) for names in ((), ("awq",)))
    assert torch.equal(plain.model.first.weight_zero_point, found.model.first.weight_zero_point)
    assert not torch.equal(plain.model.first.weight_scale, found.model.first.weight_scale)


def test_a_convolution_before_takes_the_factor():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool = nn.Conv1d(7, 16, 3), nn.AdaptiveAvgPool1d(1)
            self.last = nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.pool(self.conv(x).relu()).flatten(1))

    torch.manual_seed(0)
    net = Net().eval()
    with torch.no_grad():
        net.conv.weight[3] *= 60
    scheme = {"name": "int4-weight-only", "granularity": "per-channel"}
    result = quantized(net, "awq", scheme=scheme)
    assert places(result) == [("conv", "last")]
    assert output_db(net, result) > output_db(net, quantized(net, scheme=scheme)) + 3


@pytest.mark.parametrize("make", [Block, PostNorm, Chain])
def test_gptq_after_it_rounds_the_multiplied_weights(make: type[nn.Module]):
    net = salient(make())
    both = output_db(net, quantized(net, "awq", "gptq"))
    assert both > output_db(net, quantized(net, "awq"))
    assert both > output_db(net, quantized(net, "gptq"))


def test_bias_correction_after_it_takes_the_mean_of_what_is_left():
    net = salient(Chain())
    corrected, alone = quantized(net, "awq", "bias-correction"), quantized(net, "awq")
    x = torch.cat(rows())
    with torch.no_grad():
        means = [float((result.model(x) - net(x)).mean((0, 1)).norm()) for result in (corrected, alone)]
    assert means[0] < means[1] / 2


@pytest.mark.parametrize("make", [Block, PostNorm, Chain])
def test_a_file_has_it(tmp_path: Path, make: type[nn.Module]):
    net = salient(make())
    result = quantized(net, "awq", "gptq")
    result.save(tmp_path / "model.safetensors")
    loaded = Quantizer().load(tmp_path / "model.safetensors", make())
    x = rows()[0]
    assert torch.equal(loaded(x), result.model(x))
    assert loaded.state_dict().keys() == result.model.state_dict().keys()


def test_the_float_model_is_left_as_it_was():
    net = salient(PostNorm())
    before = copy.deepcopy(net.state_dict())
    quantized(net, "awq")
    assert all(same_bits(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert type(net.up) is nn.Linear


@pytest.mark.parametrize("scheme", ["int8-static", "int8-dynamic", "bfloat16"])
def test_layers_whose_inputs_are_quantized_and_weights_without_scales_are_left(scheme: str):
    assert places(quantized(salient(Block()), "awq", scheme=scheme)) == []


def test_it_and_smoothquant_each_take_the_layers_that_are_theirs():
    net = nn.Sequential(salient(PostNorm()), salient(PostNorm())).eval()
    overrides = {"1.*": {"scheme": INT4}}
    result = Quantizer(
        "int8-dynamic", overrides=overrides, algorithms=["smoothquant", "awq"], show_progress=False, validators=()
    ).quantize(net, rows())
    by = {rewrite.layers[-1]: rewrite.algorithm for rewrite in result.plan.rewrites}
    assert by["0.up"] == "smoothquant"
    assert by["1.up"] == "awq"


def test_named_twice_it_does_nothing_the_second_time():
    net = salient(PostNorm())
    assert places(quantized(net, "awq", "awq")) == places(quantized(net, "awq"))


def test_layers_whose_inputs_another_algorithm_has_changed_are_left():
    net = salient(Chain())
    scheme = {"name": "int4-weight-only", "granularity": "per-tensor"}
    first, *others = quantized(net, "cross-layer-equalization", "awq", scheme=scheme).plan.rewrites
    assert first.algorithm == "cross-layer-equalization"
    assert all("last" not in rewrite.layers for rewrite in others)


def test_a_weight_that_two_layers_share_is_left_alone():
    net = salient(PostNorm())
    net.gate.weight = net.up.weight
    assert not any({"up", "gate"} & set(place) for place in places(quantized(net, "awq")))


def test_without_data_or_beyond_the_columns_allowed_nothing_is_multiplied():
    net = salient(PostNorm())
    assert places(quantized(net, "awq", max_columns=WIDTH - 1)) in ([], [("down",)])
    result = Quantizer(INT4, algorithms=["awq"], show_progress=False, validators=()).quantize(net)
    assert places(result) == []


@pytest.mark.parametrize("fill", [0.0, 1e30, float("inf"), float("nan")])
def test_inputs_of_which_nothing_can_be_made_change_nothing(fill: float):
    net = nn.Sequential(nn.Linear(WIDTH, 8)).eval()
    result = Quantizer(INT4, algorithms=["awq"], show_progress=False, validators=()).quantize(
        net, [torch.full((4, WIDTH), fill)]
    )
    assert places(result) == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_models_in_half_precision_gain_too(dtype: torch.dtype):
    net = salient(PostNorm()).to(dtype)
    data = [x.to(dtype) for x in rows()]
    x = torch.cat(data)
    values = []
    for names in ([], ["awq"]):
        result = Quantizer(INT4, algorithms=names, show_progress=False, validators=()).quantize(net, data)
        with torch.no_grad():
            values.append(sqnr_db(net(x), result.model(x)))
    assert values[1] > values[0] + 2


@pytest.mark.parametrize(("option", "value"), [*itertools.product(["grid", "max_columns"], [0, -1, 1.5, True, "a"])])
def test_options_that_make_no_sense_are_refused(option: str, value: object):
    with pytest.raises(ConfigurationError, match=option):
        quantized(salient(Block()), "awq", **{option: value})


def test_data_that_can_be_read_once_are_refused():
    with pytest.raises(ConfigurationError, match=r"awq .*read twice"):
        Quantizer(INT4, algorithms=["awq"]).quantize(salient(Block()), iter(rows()))
