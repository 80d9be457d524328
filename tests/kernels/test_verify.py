"""A kernel is trusted only after it gave what the reference gives."""

import attrs
import planted_kernels as planted
import pytest
import torch
from on_this_cpu import KERNELS
from planted_kernels import plant

from mono_quant.kernels.select import supports
from mono_quant.kernels.verify import kind_of, verify
from mono_quant.plugin_api.kernel import QuantizedOp
from mono_quant.testing.distance import distance_from_reference, floats_of


def layer(kind: str, weight_shape: tuple[int, ...], **changes: object) -> QuantizedOp:
    axes = len(weight_shape) - 2
    op = QuantizedOp(
        kind=kind,
        weight=torch.ones(weight_shape, dtype=torch.int8),
        weight_scale=torch.ones(weight_shape[0]),
        bias=None,
        input_scale=0.1,
        input_zero_point=7,
        stride=(1,) * axes,
        padding=(1,) * axes,
        dilation=(1,) * axes,
    )
    return attrs.evolve(op, **changes)


LINEAR = layer("linear", (4, 8))
CONV = layer("conv2d", (4, 8, 3, 3))
DEPTHWISE = layer("conv2d", (8, 1, 3, 3), groups=8)
LAYERS = {
    "linear": LINEAR,
    "dynamic": attrs.evolve(LINEAR, input_scale=None, input_zero_point=None),
    "conv1d": layer("conv1d", (4, 8, 3), stride=(2,)),
    "conv2d": CONV,
    "dilated": attrs.evolve(CONV, dilation=(2, 3), padding=(0, 4)),
    "grouped": layer("conv2d", (6, 4, 3, 3), groups=2),
    "depthwise": DEPTHWISE,
    "depth-multiplier": layer("conv2d", (16, 1, 3, 3), groups=8),
    "conv3d": layer("conv3d", (4, 8, 3, 1, 2), padding=(1, 0, 0)),
    "depthwise-3d": layer("conv3d", (8, 1, 3, 3, 3), groups=8),
}


@pytest.mark.parametrize("like", LAYERS.values(), ids=LAYERS)
def test_the_reference_itself_passes(like: QuantizedOp):
    assert verify(plant(planted.right), like)


@pytest.mark.parametrize("like", LAYERS.values(), ids=LAYERS)
def test_onednn_passes_for_every_kind_of_layer(like: QuantizedOp):
    assert verify(KERNELS["onednn"], like).why_not == ""


@pytest.mark.parametrize("like", [LAYERS["linear"], LAYERS["dynamic"]])
def test_fbgemm_passes(like: QuantizedOp):
    assert verify(KERNELS["fbgemm"], like).why_not == ""


@pytest.mark.parametrize("like", [LINEAR, CONV, DEPTHWISE], ids=["linear", "conv2d", "depthwise"])
@pytest.mark.parametrize(
    "wrong",
    [
        planted.another_zero_point,
        planted.no_bias,
        planted.first_scale_for_all,
        planted.activations_of_seven_bits,
        planted.no_negative_weights,
        planted.last_channel_left_out,
    ],
)
def test_a_wrong_number_is_found(wrong: planted.Run, like: QuantizedOp):
    assert "differs from the reference by" in verify(plant(wrong), like).why_not


@pytest.mark.parametrize("wrong", [planted.sums_in_half_precision, planted.pairs_added_in_int16])
def test_a_sum_that_is_not_exact_is_found(wrong: planted.Run):
    assert "differs from the reference by" in verify(plant(wrong), LINEAR).why_not


@pytest.mark.parametrize("like", [CONV, DEPTHWISE, LAYERS["conv1d"], LAYERS["conv3d"]])
def test_padding_with_code_zero_instead_of_the_zero_point_is_found(like: QuantizedOp):
    assert "differs from the reference by" in verify(plant(planted.padding_with_code_zero), like).why_not


def test_a_kernel_that_is_wrong_for_depthwise_layers_only_is_found_there():
    kernel = plant(planted.wrong_where_depthwise)
    assert verify(kernel, LAYERS["grouped"])
    assert verify(kernel, LAYERS["depth-multiplier"])
    assert not verify(kernel, DEPTHWISE)


def test_pairing_in_int16_is_accepted_of_a_kernel_that_says_so():
    assert verify(plant(planted.pairs_added_in_int16, pairs_int16=True), LINEAR)


def test_a_result_that_is_no_number_is_found():
    assert "by nan" in verify(plant(planted.nan), LINEAR).why_not
    assert not verify(plant(planted.infinite), LINEAR)


def test_a_result_of_another_shape_is_found():
    assert verify(plant(planted.another_shape), LINEAR).why_not == "it gave torch.float32[1, 3, 4], not float32[3, 4]"
    assert "not float32[3, 4," in verify(plant(planted.no_padding), CONV).why_not


def test_a_result_of_another_dtype_is_found():
    assert verify(plant(planted.another_dtype), LINEAR).why_not == "it gave torch.float64[3, 4], not float32[3, 4]"


def test_a_kernel_that_fails_says_how():
    packing = verify(plant(planted.failing_when_packed), CONV)
    running = verify(plant(planted.failing_when_run), CONV)
    assert packing.why_not == "it failed with RuntimeError: no primitive for conv2d"
    assert running.why_not == "it failed with NotImplementedError: conv2d of torch.float32"


def test_layers_that_a_kernel_may_run_by_other_code_are_of_different_kinds():
    kinds = {kind_of(like) for like in LAYERS.values()}
    assert len(kinds) == len(LAYERS)


def test_large_layers_whose_channels_leave_the_same_rest_are_of_one_kind():
    wide, wider = (
        layer("conv2d", (out, 128, 3, 3), bias=bias, input_scale=0.5, input_zero_point=0)
        for out, bias in ((64, torch.ones(64)), (96, None))
    )
    assert kind_of(wide) == kind_of(wider) == kind_of(layer("conv2d", (32, 512, 3, 3)))
    for other in ((64, 127, 3, 3), (65, 128, 3, 3), (64, 64, 3, 3), (8, 128, 3, 3)):
        assert kind_of(wide) != kind_of(layer("conv2d", other))


@pytest.mark.parametrize("channels", [1, 3, 4, 8, 12, 15, 16, 24, 32, 64, 65, 200])
@pytest.mark.parametrize("size", [(1, 8), (1, 16), (16, 1), (1, 64), (8, 8)], ids=str)
def test_a_kernel_is_used_for_no_layer_that_it_gets_wrong(channels: int, size: tuple[int, int]):
    """With AMX oneDNN does get some of these wrong: 16 channels and a multiple of 8 columns, for one."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-64, 65, (20, channels, *size), generator=generator, dtype=torch.int8)
    op = layer("conv2d", weight.shape, weight=weight, weight_scale=torch.full((20,), 0.01), padding=(0, 0))
    codes = torch.randint(0, 256, (2, channels, size[0] + 20, size[1] + 20), generator=generator)
    x = floats_of(codes, op)
    for kernel in KERNELS.values():
        if supports(kernel, op, torch.device("cpu")):
            assert distance_from_reference(kernel.pack(op)(x), x, op, rounds_sums=kernel.rounds_sums) <= 1


@pytest.mark.parametrize("like", [LINEAR, CONV], ids=["linear", "conv2d"])
def test_weights_in_wrong_places_are_found(like: QuantizedOp):
    assert "differs from the reference by" in verify(plant(planted.weights_in_reverse), like).why_not
