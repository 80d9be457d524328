"""Small layers of every kind with the worst weights and inputs: what kernels are compared with the reference on."""

from collections.abc import Iterator
from math import prod
from typing import Any

import attrs
import torch
from torch import Tensor

from mono_quant.core.encoding import encode
from mono_quant.plugin_api import WeightSpec
from mono_quant.plugin_api.kernel import OpKind, QuantizedOp, WeightOnlyOp

__all__ = [
    "GEOMETRIES",
    "WEIGHT_SHAPES",
    "WEIGHT_STORAGE",
    "Geometry",
    "codes",
    "full_range_weights",
    "ops",
    "weight_only_op",
    "weights",
]


@attrs.frozen(kw_only=True)
class Geometry:
    """The shape of a layer and of its input; ``size`` is the number of rows for linear."""

    kind: OpKind
    channels: int
    out: int
    size: tuple[int, ...]
    batch: int = 1
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return self.out, self.channels // self.groups, *self.kernel

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (*self.size, self.channels) if self.kind == "linear" else (self.batch, self.channels, *self.size)

    def __str__(self) -> str:
        shape = "x".join(map(str, self.weight_shape))
        rest = "".join(
            f" {letter}{'x'.join(map(str, value))}"
            for letter, value in (("s", self.stride), ("p", self.padding), ("d", self.dilation))
            if len(set(value)) > 1 or value[:1] not in ((), (1,) if letter != "p" else (0,))
        )
        return f"{self.kind} {shape} of {'x'.join(map(str, self.input_shape))}{rest} g{self.groups}"


_CONVOLUTIONS: tuple[OpKind, ...] = ("conv1d", "conv2d", "conv3d")


def _linear(rows: int, channels: int, out: int) -> Geometry:
    return Geometry(kind="linear", channels=channels, out=out, size=(rows,))


def _conv(size: tuple[int, ...], channels: int, out: int, kernel: tuple[int, ...], **options: Any) -> Geometry:  # noqa: ANN401
    axes = len(size)
    simple: dict[str, Any] = {"stride": (1,) * axes, "padding": (0,) * axes, "dilation": (1,) * axes}
    kind = _CONVOLUTIONS[axes - 1]
    return Geometry(kind=kind, channels=channels, out=out, size=size, kernel=kernel, **(simple | options))


GEOMETRIES = (
    _linear(1, 1, 1), _linear(1, 64, 64), _linear(1, 3, 5), _linear(2, 255, 7), _linear(3, 17, 33),
    _linear(7, 130, 1), _linear(16, 1024, 20), _linear(20, 4097, 3), _linear(255, 31, 65), _linear(300, 96, 130),
    _conv((9,), 4, 6, (3,)), _conv((1,), 5, 3, (1,), batch=3), _conv((12,), 7, 5, (4,), padding=(2,), batch=2),
    _conv((20,), 6, 6, (3,), groups=6, padding=(2,), dilation=(2,)),
    _conv((15,), 6, 9, (5,), groups=3, stride=(2,), padding=(4,), batch=2),
    _conv((40,), 1, 17, (11,), stride=(3,), padding=(5,)), _conv((300,), 64, 64, (3,), padding=(1,)),
    _conv((6, 6), 3, 5, (3, 3)), _conv((8, 8), 64, 32, (3, 3), padding=(1, 1)), _conv((5, 7), 17, 33, (1, 1), batch=3),
    _conv((11, 9), 3, 16, (7, 7), stride=(2, 2), padding=(3, 3)),
    _conv((9, 9), 32, 32, (3, 3), groups=32, padding=(1, 1), batch=2),
    _conv((9, 9), 13, 13, (5, 5), groups=13, stride=(2, 2), padding=(2, 2)), _conv((7, 7), 5, 15, (3, 3), groups=5),
    _conv((8, 8), 6, 9, (3, 3), groups=3, batch=2), _conv((8, 9), 33, 11, (3, 3), groups=11),
    _conv((10, 13), 5, 7, (1, 4), stride=(2, 1), padding=(0, 3), dilation=(1, 2)),
    _conv((9, 8), 4, 4, (2, 2), padding=(1, 1), dilation=(3, 1)), _conv((3, 3), 9, 4, (3, 3), batch=3),
    _conv((40, 1), 3, 7, (11, 1), stride=(4, 1), padding=(5, 0), batch=2), _conv((9, 6), 4, 4, (3, 1), groups=4),
    _conv((12, 7), 6, 4, (4, 1), stride=(1, 2), padding=(2, 1), dilation=(2, 1), groups=2),
    _conv((20, 20), 16, 24, (3, 3), stride=(3, 3), padding=(2, 1), dilation=(2, 2)),
    _conv((4, 4, 4), 3, 5, (3, 3, 3)), _conv((3, 5, 4), 17, 7, (1, 1, 1), batch=2),
    _conv((4, 5, 6), 6, 6, (3, 3, 3), groups=6, padding=(1, 1, 1)), _conv((5, 5, 5), 4, 6, (2, 3, 1), groups=2),
    _conv((6, 7, 8), 16, 3, (3, 2, 3), stride=(2, 1, 3), padding=(1, 0, 2), dilation=(1, 2, 1), batch=3),
)  # fmt: skip

_LARGEST_SAFE = 64
_LARGEST = 127


def weights(geometry: Geometry) -> dict[str, Tensor]:
    """Codes at the bound of the rule that two of a row sum to at most 128, by what they look like."""
    shape = geometry.weight_shape
    positive = torch.full(shape, _LARGEST_SAFE, dtype=torch.int8)
    alternating = positive.clone()
    alternating.view(-1)[::2] = -_LARGEST_SAFE
    random = torch.randint(-_LARGEST_SAFE, _LARGEST_SAFE + 1, shape, generator=_seeded(1), dtype=torch.int8)
    random[1:2] = 0
    return {
        "positive": positive,
        "negative": -positive,
        "alternating": alternating,
        "one-large": _one_large(shape),
        "random": random,
    }


def full_range_weights(geometry: Geometry) -> dict[str, Tensor]:
    """Codes that a kernel which pairs in int16 cannot add, where a row has two of them."""
    positive = torch.full(geometry.weight_shape, _LARGEST, dtype=torch.int8)
    return {"full-positive": positive, "full-negative": -positive}


def ops(geometry: Geometry, weight: Tensor) -> Iterator[QuantizedOp]:
    """The layer with zero points from end to end, with and without bias."""
    out = geometry.out
    for zero_point, has_bias in ((0, False), (131, True), (255, False)):
        yield QuantizedOp(
            kind=geometry.kind,
            weight=weight,
            weight_scale=torch.linspace(0.0007, 0.013, out),
            bias=torch.linspace(-40, 40, out) if has_bias else None,
            input_scale=float(torch.tensor(0.0173)),
            input_zero_point=zero_point,
            stride=geometry.stride,
            padding=geometry.padding,
            dilation=geometry.dilation,
            groups=geometry.groups,
        )


def codes(geometry: Geometry) -> dict[str, Tensor]:
    """Input codes, int64: both extremes, the two in turn, and any."""
    shape = geometry.input_shape
    alternating = torch.zeros(prod(shape), dtype=torch.long)
    alternating[1::2] = 255
    return {
        "lowest": torch.zeros(shape, dtype=torch.long),
        "highest": torch.full(shape, 255),
        "alternating": alternating.reshape(shape),
        "random": torch.randint(0, 256, shape, generator=_seeded(2)),
    }


def _one_large(shape: tuple[int, ...]) -> Tensor:
    """In every row one code at the very end of int8 and the others so small that no pair is too large, by turns < 0."""
    rows = torch.ones(shape[0], prod(shape[1:]), dtype=torch.int8)
    rows[:, -1] = _LARGEST
    rows[1::2] *= -1
    return rows.reshape(shape)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


WEIGHT_STORAGE = {
    "int8": {"dtype": "int8", "symmetric": True, "granularity": "per-channel(0)"},
    "int8-asymmetric": {"dtype": "int8", "symmetric": False, "granularity": "per-channel(0)"},
    "int8-per-tensor": {"dtype": "int8", "symmetric": True, "granularity": "per-tensor"},
    "int4": {"dtype": "int4", "symmetric": True, "granularity": "per-group(32)"},
    "int4-asymmetric": {"dtype": "int4", "symmetric": False, "granularity": "per-group(32)"},
    "int4-wide": {"dtype": "int4", "symmetric": False, "granularity": "per-group(128)"},
    "int4-per-channel": {"dtype": "int4", "symmetric": False, "granularity": "per-channel(0)"},
    "int2": {"dtype": "int2", "symmetric": False, "granularity": "per-group(32)"},
    "int3": {"dtype": "int3", "symmetric": False, "granularity": "per-group(20)"},
    "float8": {"dtype": "float8_e4m3", "symmetric": True, "granularity": "per-channel(0)"},
    "float16": {"dtype": "float16", "symmetric": True, "granularity": "per-tensor"},
    "bfloat16": {"dtype": "bfloat16", "symmetric": True, "granularity": "per-tensor"},
}
"""Ways in which a weight is stored, by a name for each: arguments of a `WeightSpec`."""

WEIGHT_SHAPES = [(1, 1), (3, 8), (16, 8), (5, 15), (33, 17), (1, 32), (16, 32), (48, 64), (32, 96), (7, 100), (64, 256)]
"""Output and input features: many that whole vectors of a CPU do not divide."""


def weight_only_op(storage: str, out: int, features: int, *, has_bias: bool = True) -> WeightOnlyOp:
    """A linear layer of which only the weight is quantized, with random weights."""
    spec = WeightSpec(shape=(out, features), **WEIGHT_STORAGE[storage])  # type: ignore[arg-type]
    stored = encode(torch.randn(out, features, generator=_seeded(3)), spec)
    return WeightOnlyOp(stored=stored, spec=spec, bias=torch.randn(out, generator=_seeded(4)) if has_bias else None)
