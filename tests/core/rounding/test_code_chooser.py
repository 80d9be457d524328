"""What the algorithms that choose codes are worth on the data, in every scheme, and what stays as it is."""

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from correlated import correlated, smooth, white
from refined_layers import batches, linear, output_error, plain, refined, tensors
from torch import Tensor, nn

from mono_quant import Quantizer
from mono_quant.core.tensors import same_bits
from mono_quant.core.weights import is_pair_safe

BITS = range(2, 9)
GRAINS: list[dict[str, Any]] = [
    {"granularity": "per-tensor"}, {"granularity": "per-channel"},
    {"granularity": "per-group", "group_size": 8}, {"granularity": "per-group", "group_size": 10, "misfit": "pad"},
    {"granularity": "per-group", "group_size": 10, "misfit": "adjust"},
]  # fmt: skip
PATCHES = {
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (8,)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, padding="same", dilation=2), (6, 6)),
    "conv3d": (lambda: nn.Conv3d(4, 6, 2, padding=1, padding_mode="circular"), (4, 4, 4)),
    "depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4), (6, 6)),
}


@pytest.fixture(params=["gptq", "adaround"])
def algorithm(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("grain", GRAINS, ids=lambda grain: "-".join(map(str, grain.values())))
@pytest.mark.parametrize("symmetric", [True, False])
def test_correlated_inputs_cost_less_in_every_weight_only_scheme(
    algorithm: str, bits: int, grain: dict[str, Any], *, symmetric: bool
):
    model, data = linear(), batches()
    scheme = {"name": f"int{bits}-weight-only", "symmetric": symmetric, **grain}
    before, after = plain(model, data, scheme), refined(algorithm, model, data, scheme)
    # Two bits leave nothing to make up with: their steps are as large as the weights.
    assert output_error(model, after, data) < (0.9 if bits == 2 else 0.6) * output_error(model, before, data)
    changed = [name for name in tensors(before) if not torch.equal(tensors(before)[name], tensors(after)[name])]
    assert changed == ["0.weight"]


@pytest.mark.parametrize("scheme", ["int4-weight-only", "int8-static"])
def test_of_inputs_that_are_orthogonal_all_codes_stay(algorithm: str, scheme: str):
    model, data = linear(16), [white(16)]
    wanted = {"name": scheme, "granularity": "per-channel"} if scheme == "int4-weight-only" else scheme
    before, after = plain(model, data, wanted), refined(algorithm, model, data, wanted)
    assert all(torch.equal(one, tensors(after)[name]) for name, one in tensors(before).items())


@pytest.mark.parametrize("scheme", ["int8-static", "int8-dynamic"])
def test_int8_codes_gain_and_stay_safe_on_every_cpu(algorithm: str, scheme: str):
    model, data = linear(64, 48), batches(64)
    before, after = plain(model, data, scheme), refined(algorithm, model, data, scheme)
    assert is_pair_safe(after.model[0].weight)
    assert int(after.model[0].weight.min()) >= -127
    assert output_error(model, after, data) < output_error(model, before, data)
    assert not torch.equal(before.model[0].weight, after.model[0].weight)


@pytest.mark.parametrize("seed", range(20))
def test_int8_weights_alone_keep_away_from_the_code_that_kernels_do_not_expect(algorithm: str, seed: int):
    model, data = linear(32, 16), [correlated(64, 32)]
    with torch.no_grad():
        model[0].weight[:, seed % 3 :: 3] = -0.17 - 0.001 * seed  # all others are to make up for what these lose
    after = refined(algorithm, model, data, "int8-weight-only")
    assert int(after.model[0].stored("weight")[""].min()) >= -127


def test_codes_of_the_full_range_may_use_it(algorithm: str):
    model, data = linear(64, 48), batches(64)
    scheme = {"name": "int8-static", "saturation": "full-range"}
    after = refined(algorithm, model, data, scheme)
    assert output_error(model, after, data) < 0.5 * output_error(model, plain(model, data, scheme), data)
    assert int(after.model[0].weight.min()) >= -127


@pytest.mark.parametrize("kind", PATCHES)
@pytest.mark.parametrize("scheme", ["int4-weight-only", "int8-static"])
def test_convolutions_gain(algorithm: str, kind: str, scheme: str):
    torch.manual_seed(0)
    make, spatial = PATCHES[kind]
    model = nn.Sequential(make()).eval()
    data = [smooth(8, 4, spatial, seed=seed) for seed in range(3)]
    wanted = {"name": scheme, "granularity": "per-channel"} if scheme == "int4-weight-only" else scheme
    nearest = output_error(model, plain(model, data, wanted), data)
    assert output_error(model, refined(algorithm, model, data, wanted), data) < 0.6 * nearest


def test_a_convolution_gets_the_codes_of_the_linear_layer_of_its_patches(algorithm: str):
    torch.manual_seed(0)
    conv, x = nn.Conv1d(4, 6, 3), smooth(5, 4, (9,))
    twin = nn.Linear(12, 6)
    twin.weight.data = conv.weight.detach().flatten(1)
    patches = x.unfold(2, 3, 1).transpose(1, 2).flatten(2)
    scheme = {"name": "int4-weight-only", "granularity": "per-channel"}
    model = nn.Sequential(conv).eval()
    of_conv = refined(algorithm, model, [x], scheme).model[0].dequantized()
    of_twin = refined(algorithm, nn.Sequential(twin).eval(), [patches], scheme).model[0].dequantized()
    assert torch.equal(of_conv.flatten(1), of_twin)
    assert not torch.equal(of_conv, plain(model, [x], scheme).model[0].dequantized())


@pytest.mark.parametrize("scheme", ["int8-static", "int8-dynamic"])
def test_a_smoothed_layer_is_refined_on_what_it_multiplies(algorithm: str, scheme: str):
    torch.manual_seed(0)
    model, data = linear(64, 48), batches(64)
    for x in data:
        x[:, 5] *= 200
    both = Quantizer(scheme, algorithms=["smoothquant", algorithm], show_progress=False).quantize(model, data)
    alone = Quantizer(scheme, algorithms=["smoothquant"], show_progress=False).quantize(model, data)
    assert "0.input_factor" in tensors(alone)
    factor = both.model[0].input_factor
    x = torch.cat(data).double() * factor.double()
    errors = []
    for result in (alone, both):
        change = result.model[0].dequantized().double() - model[0].weight.detach().double() / factor.double()
        errors.append(float((x @ change.T).square().sum()))
    assert errors[1] < errors[0]


def test_no_row_gets_worse_even_where_the_data_are_few(algorithm: str):
    model, data = linear(), [correlated(3, 24)]
    scheme = {"name": "int3-weight-only", "granularity": "per-channel"}
    x = data[0].double()
    errors = [
        (x @ (r.model[0].dequantized().double() - model[0].weight.detach().double()).T).square().sum(0)
        for r in (plain(model, data, scheme), refined(algorithm, model, data, scheme))
    ]
    assert bool((errors[1] <= errors[0]).all())


def test_the_same_data_give_the_same_codes_and_the_model_stays(algorithm: str):
    model, data = linear(), batches()
    before = copy.deepcopy(model.state_dict())
    scheme = {"name": "int4-weight-only", "group_size": 8}
    one, other = (tensors(refined(algorithm, model, data, scheme)) for _ in range(2))
    assert all(same_bits(tensor, other[name]) for name, tensor in one.items())
    assert all(same_bits(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert type(model[0]) is nn.Linear
    assert not model[0]._forward_pre_hooks


@pytest.mark.parametrize("scheme", ["int4-weight-only", "int8-static"])
def test_a_file_holds_the_codes(algorithm: str, tmp_path: Path, scheme: str):
    model, data = linear(128), batches(128)
    result = refined(algorithm, model, data, scheme)
    result.save(tmp_path / "model.safetensors")
    loaded = Quantizer().load(tmp_path / "model.safetensors", model=linear(128)).state_dict()
    assert all(same_bits(tensor, loaded[name]) for name, tensor in tensors(result).items())


def test_without_data_or_beyond_the_columns_allowed_the_scheme_has_its_way(algorithm: str):
    model, data = linear(), batches()
    scheme = {"name": "int4-weight-only", "group_size": 8}
    expected = tensors(plain(model, data, scheme))
    for result in (refined(algorithm, model, None, scheme), refined(algorithm, model, data, scheme, max_columns=23)):
        assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors(result).items())
    assert not torch.equal(
        tensors(refined(algorithm, model, data, scheme, max_columns=24))["0.weight"], expected["0.weight"]
    )


class Doubled(nn.Linear):
    """What it is given is not what its weight is multiplied by."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flip(-1))


@pytest.mark.parametrize(
    ("layer", "scheme"),
    [
        (Doubled(24, 16), {"name": "int4-weight-only", "group_size": 8}),
        (nn.Linear(24, 16), "float8-weight-only"),
        (nn.Linear(24, 16), "bfloat16"),
        (nn.ConvTranspose1d(24, 16, 1), {"name": "int4-weight-only", "granularity": "per-channel"}),
    ],
    ids=["own forward", "float8", "bfloat16", "transposed"],
)
def test_other_layers_and_codes_are_left_alone(algorithm: str, layer: nn.Module, scheme: Any):  # noqa: ANN401
    model = nn.Sequential(layer).eval()
    data = [x.unsqueeze(-1) if isinstance(layer, nn.ConvTranspose1d) else x for x in batches()]
    before = tensors(plain(model, data, scheme))
    after = tensors(refined(algorithm, model, data, scheme))
    assert all(same_bits(tensor, after[name]) for name, tensor in before.items())


def test_inputs_that_are_all_zero_change_nothing_and_need_no_warning(algorithm: str):
    model, scheme = linear(), {"name": "int4-weight-only", "group_size": 8}
    data = [torch.zeros(4, 24)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = tensors(refined(algorithm, model, data, scheme))
    assert all(torch.equal(tensor, found[name]) for name, tensor in tensors(plain(model, data, scheme)).items())


def test_weights_of_features_that_the_data_never_used_keep_their_codes(algorithm: str):
    torch.manual_seed(0)
    layer = nn.Linear(12, 6).eval()
    rows = torch.randn(40, 12)
    rows[:, [3, 7]] = 0
    scheme = {"name": "int4-weight-only", "granularity": "per-channel"}
    nearest = Quantizer(scheme, algorithms=[], show_progress=False).quantize(layer, [rows]).model
    refined = Quantizer(scheme, algorithms=[algorithm], show_progress=False).quantize(layer, [rows]).model
    assert not torch.equal(refined.dequantized(), nearest.dequantized())
    assert torch.equal(refined.dequantized()[:, [3, 7]], nearest.dequantized()[:, [3, 7]])
