"""The operator's inputs, read one code at a time as its documentation says, against the weight that is stored."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mono_quant.core.encoding import decode, encode
from mono_quant.plugin_api import WeightSpec
from torch import Tensor

from mono_quant_matmulnbits.blocks import Blocks, blocks_of, why_not

GRANULARITIES = ("per-tensor", "per-channel(0)", *(f"per-group({16 * n})" for n in (1, 2, 3, 4, 6, 7, 8, 16, 24)))


def weight_of(blocks: Blocks) -> Tensor:
    """``(code - zero_point) · scale``, rounded once: the product of a few bits and a float32 is exact in float64."""
    channels, count, _ = blocks.codes.shape
    codes, scale = blocks.codes.tolist(), blocks.scale.tolist()
    zero_bytes = [] if blocks.zero_point is None else blocks.zero_point.tolist()
    row_bytes = (count + 1) // 2

    def element(n: int, k: int) -> float:
        block, place = divmod(k, blocks.size)
        code = codes[n][block][place // 2] >> 4 * (place % 2) & 15
        zero = zero_bytes[n * row_bytes + block // 2] >> 4 * (block % 2) & 15 if zero_bytes else 8
        return (code - zero) * scale[n * count + block]

    rows = [[element(n, k) for k in range(blocks.features)] for n in range(channels)]
    return torch.tensor(rows, dtype=torch.float64).float()


def stored(spec: WeightSpec, seed: int = 0) -> dict[str, Tensor]:
    weight = torch.randn(spec.shape, generator=torch.Generator().manual_seed(seed))
    return encode(weight * torch.linspace(0.01, 3, spec.shape[0])[:, None] + 0.3, spec)


@settings(deadline=None, max_examples=150)
@given(
    dtype=st.sampled_from(["int2", "int3", "int4"]),
    symmetric=st.booleans(),
    granularity=st.sampled_from(GRANULARITIES),
    channels=st.integers(1, 5),
    features=st.integers(1, 700),
)
def test_each_code_scale_and_zero_point_stands_where_the_operator_reads_it(
    *, dtype: str, symmetric: bool, granularity: str, channels: int, features: int
):
    spec = WeightSpec(dtype=dtype, symmetric=symmetric, granularity=granularity, shape=(channels, features))
    tensors = stored(spec)
    assert why_not(spec) == ""
    assert torch.equal(weight_of(blocks_of(tensors, spec)), decode(tensors, spec))


@pytest.mark.parametrize("group", [512, 768, 1024, 1040])
@pytest.mark.parametrize("features", [2304, 1100])
def test_a_group_may_be_many_blocks(group: int, features: int):
    spec = WeightSpec(dtype="int4", symmetric=False, granularity=f"per-group({group})", shape=(2, features))
    tensors = stored(spec)
    assert torch.equal(weight_of(blocks_of(tensors, spec)), decode(tensors, spec))


@pytest.mark.parametrize(
    ("group", "features", "size"),
    [(16, 64, 16), (32, 64, 32), (48, 96, 16), (128, 512, 128), (384, 768, 128), (512, 1024, 256), (128, 100, 128)],
)
def test_blocks_are_as_large_as_the_groups_allow(group: int, features: int, size: int):
    spec = WeightSpec(dtype="int4", symmetric=True, granularity=f"per-group({group})", shape=(2, features))
    assert blocks_of(stored(spec), spec).size == size


def test_whole_blocks_of_int4_codes_are_not_copied():
    spec = WeightSpec(dtype="int4", symmetric=True, granularity="per-group(32)", shape=(4, 96))
    tensors = stored(spec)
    assert blocks_of(tensors, spec).codes.data_ptr() == tensors[""].data_ptr()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dtype": "int8"}, "it runs int2, int3 and int4 weights"),
        ({"dtype": "int5"}, "it runs int2, int3 and int4 weights"),
        ({"dtype": "bfloat16", "symmetric": True}, "it runs int2, int3 and int4 weights"),
        ({"dtype": "float8_e4m3", "symmetric": True}, "it runs int2, int3 and int4 weights"),
        ({"granularity": "per-group(20)"}, "it runs groups of 16, 32, 48"),
        ({"granularity": "per-group(8)"}, "it runs groups of 16, 32, 48"),
        ({"granularity": "per-channel(1)"}, "with scales along the output features"),
        ({"shape": (8, 64, 3)}, "it runs weights of a linear layer"),
        ({"shape": (0, 64)}, "it runs weights of a linear layer"),
        ({"shape": (8, 0)}, "it runs weights of a linear layer"),
    ],
)
def test_it_says_why_a_weight_has_no_blocks(changes: dict[str, object], reason: str):
    given = {"dtype": "int4", "symmetric": False, "granularity": "per-group(32)", "shape": (8, 64)} | changes
    assert reason in why_not(WeightSpec(**given))


def test_a_last_axis_counted_from_the_end_is_seen():
    spec = WeightSpec(dtype="int4", symmetric=True, granularity="per-channel(-2)", shape=(4, 40))
    tensors = stored(WeightSpec(dtype="int4", symmetric=True, granularity="per-channel(0)", shape=(4, 40)))
    assert why_not(spec) == ""
    assert torch.equal(weight_of(blocks_of(tensors, spec)), decode(tensors, spec))
    assert why_not(WeightSpec(dtype="int4", symmetric=True, granularity="per-channel(-1)", shape=(4, 40)))
