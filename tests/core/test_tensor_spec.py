import math

import attrs
import pytest
import torch
from hypothesis import given
from weight_cases import specs

from mono_quant.core.granularity import PerChannel, PerGroup, PerTensor, PerToken
from mono_quant.core.qtypes import FLOAT8_E4M3, INT8, UINT8, int_type
from mono_quant.core.tensor_spec import TensorSpec, WeightSpec
from mono_quant.errors import ConfigurationError

EVERY = ("int2", "int3", "int4", "int5", "int6", "int7", "int8", "float8_e4m3", "float16", "bfloat16")


def spec_of(**changes: object) -> WeightSpec:
    given = {"dtype": "int8", "symmetric": True, "granularity": PerChannel(0), "shape": (3, 4)}
    return WeightSpec(**{**given, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"granularity": PerToken()}, "a weight cannot be quantized per-token"),
        ({"granularity": "per-token"}, "a weight cannot be quantized per-token"),
        ({"granularity": "per-row"}, "'per-row' is not a granularity"),
        ({"granularity": PerChannel(2)}, r"per-channel\(2\) does not fit a weight of shape \(3, 4\)"),
        ({"granularity": PerChannel(-3)}, r"per-channel\(-3\) does not fit a weight of shape \(3, 4\)"),
        ({"granularity": PerGroup(2, 2)}, r"per-group\(2, 2\) does not fit a weight of shape \(3, 4\)"),
        ({"shape": ()}, r"per-channel\(0\) does not fit a weight of shape \(\)"),
        ({"shape": (), "granularity": PerTensor()}, r"per-tensor does not fit a weight of shape \(\)"),
        ({"shape": (3, -1)}, "the shape of a weight must be whole numbers of at least 0, got"),
        ({"shape": (3.0, 4)}, "the shape of a weight must be whole numbers of at least 0, got"),
        ({"dtype": "float8_e4m3", "symmetric": False}, "float8_e4m3 weights are symmetric"),
        ({"dtype": "float16", "symmetric": False}, "float16 weights are symmetric"),
        ({"dtype": "uint8"}, "uint8 codes are for activations; the codes of weights are signed"),
        ({"dtype": "uint8", "symmetric": False}, "uint8 codes are for activations; the codes of weights are signed"),
        ({"dtype": "int9"}, "'int9' is not a type of codes; there are int2, "),
        ({"dtype": "int1"}, "'int1' is not a type of codes; there are int2, "),
        ({"dtype": torch.float32}, "torch.float32 is not a type of codes"),
        ({"is_dynamic": True}, "a weight is quantized once: its range is not dynamic"),
        ({"float_dtype": "manual_seed"}, "float_dtype must be the name of a float dtype of torch, got 'manual_seed'"),
        ({"float_dtype": "int8"}, "float_dtype must be the name of a float dtype of torch, got 'int8'"),
        ({"float_dtype": "torch.float32"}, "float_dtype must be the name of a float dtype of torch"),
    ],
)
def test_a_combination_that_makes_no_sense_is_refused(changes: dict[str, object], message: str):
    with pytest.raises(ConfigurationError, match=message):
        spec_of(**changes)


@pytest.mark.parametrize("size", [0, -1, 1.5, "4", None, True])
def test_a_group_of_no_whole_number_is_refused(size: object):
    with pytest.raises(ConfigurationError, match="the size of a group must be a whole number of at least 1, got"):
        PerGroup(size)


@pytest.mark.parametrize("axis", [1.0, "0", None, True])
@pytest.mark.parametrize("make", [PerChannel, lambda axis: PerGroup(4, axis)], ids=["channel", "group"])
def test_an_axis_of_no_whole_number_is_refused(make: type[PerChannel], axis: object):
    with pytest.raises(ConfigurationError, match="the axis of the channels must be a whole number, got"):
        make(axis)


@pytest.mark.parametrize("bits", [1, 9, 0, -4, 4.5, "4"])
def test_there_are_integers_of_2_to_8_bits(bits: object):
    with pytest.raises(ConfigurationError, match="codes have 2 to 8 bits, got"):
        int_type(bits)


@given(specs(EVERY, smallest=0))
def test_the_bytes_are_those_of_the_layout(spec: WeightSpec):
    assert spec.nbytes == sum(math.prod(shape) * dtype.itemsize for dtype, shape in spec.layout.values())


@given(specs(EVERY))
def test_the_bytes_are_those_of_theory(spec: WeightSpec):
    channels = spec.shape[spec.axis]
    per_channel = math.prod(spec.shape) // channels
    codes = channels * math.ceil(per_channel * spec.dtype.bits / 8)
    groups = {
        PerTensor: lambda: 1,
        PerChannel: lambda: channels,
        PerGroup: lambda: channels * math.ceil(per_channel / spec.granularity.size),
    }[type(spec.granularity)]()
    of_each = (5 if not spec.symmetric else 4) if spec.is_scaled else 0
    assert spec.nbytes == codes + groups * of_each


@pytest.mark.parametrize(
    ("changes", "layout"),
    [
        ({}, {"": (torch.int8, (3, 4)), "_scale": (torch.float32, (3,))}),
        ({"granularity": PerTensor()}, {"": (torch.int8, (3, 4)), "_scale": (torch.float32, ())}),
        (
            {"dtype": "int4", "symmetric": False, "granularity": PerGroup(3), "shape": (5, 2, 4)},
            {"": (torch.uint8, (5, 4)), "_scale": (torch.float32, (5, 3)), "_zero_point": (torch.int8, (5, 3))},
        ),
        (
            {"dtype": "int3", "granularity": PerGroup(4, 1), "shape": (5, 2, 4)},
            {"": (torch.uint8, (2, 8)), "_scale": (torch.float32, (2, 5))},
        ),
        ({"dtype": FLOAT8_E4M3}, {"": (torch.float8_e4m3fn, (3, 4)), "_scale": (torch.float32, (3,))}),
        ({"dtype": "bfloat16", "granularity": PerTensor()}, {"": (torch.bfloat16, (3, 4))}),
        ({"dtype": "int5", "shape": (0, 4)}, {"": (torch.uint8, (0, 0)), "_scale": (torch.float32, (0,))}),
        ({"dtype": "int5", "shape": (4, 0)}, {"": (torch.uint8, (4, 0)), "_scale": (torch.float32, (4,))}),
    ],
)
def test_a_parameter_is_laid_out_as_documented(changes: dict[str, object], layout: dict[str, object]):
    assert spec_of(**changes).layout == layout


@pytest.mark.parametrize(("size", "expected"), [(1, 1), (4, 4), (5, 4), (2**60, 4)])
def test_a_group_is_at_most_the_whole_channel(size: int, expected: int):
    assert spec_of(granularity=PerGroup(size)).group_size == expected


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (spec_of(), "int8 symmetric per-channel(0)"),
        (spec_of(dtype="int4", symmetric=False, granularity=PerGroup(2)), "int4 asymmetric per-group(2)"),
        (spec_of(granularity=PerGroup(2, 1)), "int8 symmetric per-group(2, 1)"),
        (spec_of(dtype="float16", granularity=PerTensor()), "float16"),
        (
            TensorSpec(dtype=UINT8, symmetric=True, granularity=PerToken(), is_dynamic=True),
            "uint8 symmetric per-token dynamic",
        ),
    ],
)
def test_it_says_what_it_is_in_a_few_words(spec: TensorSpec, text: str):
    assert str(spec) == text


def test_names_dtypes_and_text_are_normalised_once():
    spec = spec_of(dtype=torch.int8, granularity="per-group(2, -1)", shape=torch.Size([3, 4]))
    assert spec == spec_of(dtype=INT8, granularity=PerGroup(2, -1))
    assert hash(spec) == hash(spec_of(dtype="int8", granularity=PerGroup(2, -1)))
    assert type(spec.shape) is tuple


def test_a_change_is_checked_like_a_new_one():
    with pytest.raises(ConfigurationError, match="does not fit"):
        attrs.evolve(spec_of(granularity=PerChannel(1)), shape=(3,))


@pytest.mark.parametrize("name", ["float32", "float64", "float16", "bfloat16"])
def test_the_dtype_of_the_float_parameter_is_that_of_its_name(name: str):
    assert spec_of(float_dtype=name).dequantized_dtype == getattr(torch, name)
