"""The same for schemes."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mono_quant.core import schemes
from mono_quant.plugin_api import Scheme
from mono_quant.testing import SchemeSuite

WIDTH = 128
"""A multiple of the default group."""


def every_layer() -> dict[str, tuple[nn.Module, Tensor]]:
    """What the schemes for weights alone quantize."""
    x, images = torch.randn(6, WIDTH), torch.randn(2, WIDTH, 4, 4)
    return {
        "linear": (nn.Linear(WIDTH, 20), x),
        "conv2d": (nn.Conv2d(WIDTH, 10, 3, padding=1, bias=False), images),
        "conv-transposed": (nn.ConvTranspose2d(WIDTH, 16, 2, groups=1), images),
        "embedding": (nn.Embedding(30, WIDTH), torch.arange(12).reshape(3, 4)),
        "bag": (nn.EmbeddingBag(30, WIDTH), torch.arange(12).reshape(3, 4)),
        "lstm": (nn.LSTM(WIDTH, WIDTH, num_layers=2, bidirectional=True), torch.randn(3, 2, WIDTH)),
        "gru-cell": (nn.GRUCell(WIDTH, WIDTH), x),
    }


class Int8(SchemeSuite):
    minimum_sqnr_db = 30

    def layers(self) -> Mapping[str, tuple[nn.Module, Tensor]]:
        images = torch.randn(2, 6, 8, 8)
        return {
            "linear": (nn.Linear(WIDTH, 20), torch.randn(3, 5, WIDTH)),
            "no-bias": (nn.Linear(WIDTH, 20, bias=False), torch.randn(8, WIDTH)),
            "conv1d": (nn.Conv1d(6, 10, 5, stride=2), torch.randn(2, 6, 20)),
            "conv2d": (nn.Conv2d(6, 9, 3, padding="same", groups=3, padding_mode="circular"), images),
            "conv3d": (nn.Conv3d(2, 3, 2, dilation=2), torch.randn(1, 2, 6, 6, 6)),
        }


class TestInt8Static(Int8):
    name = "int8-static"

    def make(self) -> Scheme:
        return schemes.Int8Static()


class TestInt8StaticFullRange(TestInt8Static):
    def make(self) -> Scheme:
        return schemes.Int8Static(saturation="full-range")


class TestInt8Dynamic(Int8):
    name = "int8-dynamic"

    def make(self) -> Scheme:
        return schemes.Int8Dynamic()

    def layers(self) -> Mapping[str, tuple[nn.Module, Tensor]]:
        return {name: made for name, made in super().layers().items() if isinstance(made[0], nn.Linear)}


class TestInt8WeightOnly(SchemeSuite):
    name = "int8-weight-only"
    minimum_sqnr_db = 35

    def make(self) -> Scheme:
        return schemes.Int8WeightOnly()

    def layers(self) -> Mapping[str, tuple[nn.Module, Tensor]]:
        return every_layer()


class TestInt7WeightOnly(TestInt8WeightOnly):
    name = "int7-weight-only"
    minimum_sqnr_db = 30

    def make(self) -> Scheme:
        return schemes.Int7WeightOnly()


class TestInt6WeightOnly(TestInt8WeightOnly):
    name = "int6-weight-only"
    minimum_sqnr_db = 25

    def make(self) -> Scheme:
        return schemes.Int6WeightOnly()


class TestInt5WeightOnly(TestInt8WeightOnly):
    name = "int5-weight-only"
    minimum_sqnr_db = 20

    def make(self) -> Scheme:
        return schemes.Int5WeightOnly()


class TestInt4WeightOnly(TestInt8WeightOnly):
    name = "int4-weight-only"
    minimum_sqnr_db = 14

    def make(self) -> Scheme:
        return schemes.Int4WeightOnly()


class TestInt3WeightOnly(TestInt8WeightOnly):
    name = "int3-weight-only"
    minimum_sqnr_db = 8

    def make(self) -> Scheme:
        return schemes.Int3WeightOnly()


class TestInt2WeightOnly(TestInt8WeightOnly):
    name = "int2-weight-only"
    minimum_sqnr_db = 2

    def make(self) -> Scheme:
        return schemes.Int2WeightOnly()


class TestFloat8WeightOnly(TestInt8WeightOnly):
    name = "float8-weight-only"
    minimum_sqnr_db = 25
    is_pickled = False

    def make(self) -> Scheme:
        return schemes.Float8WeightOnly()


class TestFloat16(TestInt8WeightOnly):
    name = "float16"
    minimum_sqnr_db = 60
    float_types = (torch.float32, torch.float64)

    def make(self) -> Scheme:
        return schemes.Float16()


class TestBFloat16(TestFloat16):
    name = "bfloat16"
    minimum_sqnr_db = 45

    def make(self) -> Scheme:
        return schemes.BFloat16()
