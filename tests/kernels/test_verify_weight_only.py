"""Verification of kernels for weights alone: those that are right pass, those that are wrong in one way do not."""

from collections.abc import Callable

import attrs
import planted_kernels as planted
import pytest
import torch
from planted_kernels import plant
from torch import Tensor
from torch.nn import functional

from mono_quant.core.encoding import encode
from mono_quant.core.granularity import PerGroup
from mono_quant.core.tensor_spec import WeightSpec
from mono_quant.kernels.bfloat16 import BFloat16Kernel, Int4PackKernel, Int8PackKernel
from mono_quant.kernels.dequantize import DequantizeKernel
from mono_quant.kernels.verify import verify
from mono_quant.plugin_api.kernel import Kernel, WeightOnlyOp

CPU = torch.device("cpu")
KERNELS: dict[str, Kernel] = {
    "dequantize": DequantizeKernel(),
    "bfloat16-linear": BFloat16Kernel(),
    "int8pack": Int8PackKernel(),
    "int4pack": Int4PackKernel(),
}
STORED = [
    {"dtype": dtype, "symmetric": symmetric, "granularity": granularity}
    for dtype in (*(f"int{bits}" for bits in range(2, 9)), "float8_e4m3", "float16", "bfloat16")
    for symmetric in (True, False)
    for granularity in ("per-tensor", "per-channel(0)", *(f"per-group({n})" for n in (1, 3, 20, 32, 64, 128, 256)))
    if symmetric or dtype.startswith("int")
]  # fmt: skip
GROUPED = {"dtype": "int4", "symmetric": False, "granularity": "per-group(64)"}
Run = Callable[[Tensor], Tensor]


def layer(stored: dict[str, object], features: int = 256, *, bias: bool = True) -> WeightOnlyOp:
    spec = WeightSpec(shape=(32, features), **stored)
    return WeightOnlyOp(
        stored=encode(torch.randn(32, features), spec), spec=spec, bias=torch.randn(32) if bias else None
    )


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("features", [1, 32, 256])
@pytest.mark.parametrize("bias", [True, False])
def test_wherever_a_right_kernel_says_yes_it_passes(kernel: Kernel, features: int, *, bias: bool):
    ops = [layer(stored, features, bias=bias) for stored in STORED]
    refused = {str(op.spec): verify(kernel, op).why_not for op in ops if kernel.supports(op, CPU)}
    assert {spec: why_not for spec, why_not in refused.items() if why_not} == {}


def with_weight(change: Callable[[Tensor, WeightOnlyOp], Tensor]) -> Callable[[WeightOnlyOp], Run]:
    return lambda op: lambda x: functional.linear(x, change(op.weight(), op), op.bias)


def neighbours_swapped(weight: Tensor, op: WeightOnlyOp) -> Tensor:
    del op
    return weight.unflatten(1, (-1, 2)).flip(2).flatten(1)


def halves_swapped(weight: Tensor, op: WeightOnlyOp) -> Tensor:
    del op
    return weight.roll(weight.shape[1] // 2, dims=1)


def no_negative_weights(weight: Tensor, op: WeightOnlyOp) -> Tensor:
    del op
    return weight.clamp(min=0)


def last_group_left_out(weight: Tensor, op: WeightOnlyOp) -> Tensor:
    weight = weight.clone()
    weight[:, -op.spec.group_size :] = 0
    return weight


def no_zero_point(weight: Tensor, op: WeightOnlyOp) -> Tensor:
    per_weight = (op.stored["_zero_point"] * op.stored["_scale"]).repeat_interleave(op.spec.group_size, dim=1)
    return weight + per_weight


def first_group_for_all(weight: Tensor, op: WeightOnlyOp) -> Tensor:
    scale = op.stored["_scale"]
    return weight * (scale[:, :1] / scale).repeat_interleave(op.spec.group_size, dim=1)


def first_channel_for_all(weight: Tensor, op: WeightOnlyOp) -> Tensor:
    scale = op.stored["_scale"]
    return weight * (scale[:1] / scale).repeat_interleave(op.spec.group_size, dim=1)


@pytest.mark.parametrize(
    "change",
    [
        neighbours_swapped,
        halves_swapped,
        no_negative_weights,
        last_group_left_out,
        no_zero_point,
        first_group_for_all,
        first_channel_for_all,
    ],
)
@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_a_wrong_weight_is_found_at_the_precision_of_bfloat16(
    change: Callable[[Tensor, WeightOnlyOp], Tensor], size: int
):
    op = layer({**GROUPED, "granularity": PerGroup(size)}, features=512)
    kernel = plant(with_weight(change))
    kernel.precision = torch.bfloat16
    assert "differs from the reference by" in verify(kernel, op).why_not


@pytest.mark.parametrize("wrong", [planted.no_bias, planted.nan, planted.infinite])
def test_another_fault_is_found(wrong: Callable[[WeightOnlyOp], Run]):
    assert "differs from the reference by" in verify(plant(wrong), layer(GROUPED)).why_not


def test_negative_inputs_that_are_cut_off_are_found():
    def no_negative_inputs(op: WeightOnlyOp) -> Run:
        return lambda x: planted.right(op)(x.clamp(min=0))

    kernel = plant(no_negative_inputs)
    kernel.precision = torch.bfloat16
    assert "differs from the reference by" in verify(kernel, attrs.evolve(layer(GROUPED), bias=None)).why_not
