"""Kernels: the integer arithmetic of one quantized layer on one machine."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Literal, Self

import attrs
import torch
from torch import Tensor

from mono_quant.core.affine import choose_qparams_of, quantize
from mono_quant.core.blocks import row_blocks
from mono_quant.core.encoding import decode
from mono_quant.core.qtypes import UINT8
from mono_quant.core.tensor_spec import WeightSpec
from mono_quant.core.weights import is_pair_safe
from mono_quant.plugin_api.activation import ACTIVATIONS, Activation

__all__ = ["FusedRun", "Kernel", "Op", "OpKind", "QuantizedOp", "Support", "WeightOnlyOp"]

OpKind = Literal["linear", "conv1d", "conv2d", "conv3d"]


@attrs.frozen(kw_only=True, eq=False, slots=False)
class QuantizedOp:
    """A layer's arithmetic: ``float(Σ (q_x - input_zero_point) · weight) · (input_scale · weight_scale) + bias``.

    ``q_x`` are the uint8 codes of the float input, as `input_codes` gives them; the sum is exact.

    Args:
        kind: ``"linear"``: input ``(N, K)``, weight ``(out, K)``; ``"conv2d"``: input ``(N, C, H, W)``, weight
            ``(out, C / groups, h, w)``; ``"conv1d"`` and ``"conv3d"`` alike.
        weight: int8 codes in ``[-127, 127]``.
        weight_scale: float32 ``(out,)``.
        bias: float32 ``(out,)`` or None.
        input_scale: a float32 number; None when each input has its own (dynamic), from its smallest and largest value.
        input_zero_point: in ``[0, 255]``; None as well then.
        stride, padding, dilation: one number for each spatial axis; empty for linear. Padding is with real zeros.
        groups: 1 for linear.
    """

    kind: OpKind
    weight: Tensor
    weight_scale: Tensor
    bias: Tensor | None
    input_scale: float | None
    input_zero_point: int | None
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1

    def input_qparams(self, x: Tensor) -> tuple[float, int]:
        """Scale and zero point of one float32 input."""
        if self.input_scale is not None and self.input_zero_point is not None:
            return self.input_scale, self.input_zero_point
        low, high = torch.aminmax(x)
        return choose_qparams_of(float(low), float(high), UINT8)

    def input_codes(self, x: Tensor) -> tuple[Tensor, float, int]:
        """The uint8 codes of one float32 input, in its shape, and the scale and zero point that they are made with."""
        scale, zero_point = self.input_qparams(x)
        return quantize(x, scale, zero_point, UINT8), scale, zero_point

    @cached_property
    def is_pair_safe(self) -> bool:
        """Whether a kernel that adds two products in int16 computes it exactly."""
        return is_pair_safe(self.weight)

    @cached_property
    def largest_sum(self) -> int:
        """Bound of the absolute value of any sum that a kernel accumulates."""
        rows = self.weight.reshape(self.weight.shape[0], -1)
        sums = (int(rows[block].abs().sum(dim=1, dtype=torch.int64).max()) for block in row_blocks(rows))
        return 255 * max(sums, default=0)


@attrs.frozen(kw_only=True, eq=False)
class WeightOnlyOp:
    """A linear layer of which only the weight is quantized: ``x · weightᵀ + bias`` with a float input.

    Args:
        stored: the tensors of the weight ``(out, in)``, by suffix: ``""``, ``"_scale"``, ``"_zero_point"``.
        spec: how they store it.
        bias: float32 ``(out,)`` or None.
    """

    kind: Literal["weight-only-linear"] = attrs.field(default="weight-only-linear", init=False)
    stored: Mapping[str, Tensor]
    spec: WeightSpec
    bias: Tensor | None

    def weight(self) -> Tensor:
        """The float32 weight that the codes stand for, made anew at each call."""
        return decode(self.stored, self.spec)


Op = QuantizedOp | WeightOnlyOp
"""What a kernel may be asked to run; it says no to a ``kind`` that it does not know."""


@attrs.frozen
class Support:
    """Whether a kernel can run an op, and why not."""

    why_not: str = ""

    @classmethod
    def no(cls, why_not: str) -> Self:
        """The kernel cannot: ``why_not`` is a clause for people."""
        return cls(why_not)

    def __bool__(self) -> bool:
        return not self.why_not


class Kernel(ABC):
    """One way to run quantized layers. Has no state: `pack` holds what belongs to a layer."""

    pairs_int16: bool = False
    """Whether it adds two products in int16 on this CPU, so that it is exact only for pair-safe weights."""

    rounds_sums: bool = False
    """Whether it may round the sum of the codes' products to float32 before it subtracts the zero point's part."""

    precision: torch.dtype = torch.float32
    """The float type that it rounds inputs and outputs to; it must equal the reference but for that rounding."""

    @abstractmethod
    def supports(self, op: Op, device: torch.device) -> Support:
        """Whether it runs ``op`` on ``device`` here and now, found by looking or trying, never by a version number.

        Like `pack`, it may be called from several threads at once.
        """

    @abstractmethod
    def pack(self, op: Op) -> Callable[[Tensor], Tensor]:
        """Prepare the weights; the result maps the float32 input of the op's kind to its float32 output.

        The input is never empty, has no gradients, lies on the device that `supports` was asked about, and always has
        the axis ``N``. Nothing is promised of its strides: it may be transposed, expanded, or a part of another tensor.
        It belongs to the model and is only read. The output is new memory, for the model may write into it.

        The function may keep the op's tensors, or views of them, and not copy any: when one is replaced or written
        into, the op is packed anew. They may be mapped from a file, of any strides, and are only read.

        Several threads may call the function at once; so may they `pack`, for different layers.

        Where the kernel can do more, it is a `FusedRun`, which copies what it keeps of the op.
        """


class FusedRun(ABC):
    """A packed layer whose input and output may stay codes, and that applies the activation that follows it.

    So a chain of layers runs in integers. What it computes is what the layer, the activation and the next layer's
    quantization compute one after the other, but for the rounding of the numbers between them.

    An output can be computed long after the layer was called, when the op's tensors are others: it keeps copies, where
    another function that `pack` gives need not. Autocast is as the caller has it.

    Args:
        op: the layer's arithmetic, with a static input scale.

    Raises:
        TypeError: when the op has none.
        ValueError: when ``activations`` holds a name that is not in `ACTIVATIONS`.
    """

    activations: frozenset[str] = frozenset()
    """Names of the activations that it applies."""

    def __init__(self, op: QuantizedOp) -> None:
        if op.input_scale is None or op.input_zero_point is None:
            raise TypeError("a layer whose inputs each have their own range takes no codes")
        if unknown := set(self.activations) - set(ACTIVATIONS):
            names = f"{', '.join(map(repr, sorted(unknown)))}; there are {', '.join(ACTIVATIONS)}"
            raise ValueError(f"the activations of {type(self).__name__} name {names}")
        self.input = (op.input_scale, op.input_zero_point)
        """Scale and zero point of the codes that it takes."""

    def __call__(self, x: Tensor) -> Tensor:
        """The float32 output of a float32 input."""
        return self.fused(self.encode(x))

    def encode(self, x: Tensor) -> Tensor:
        """The uint8 codes of a float32 input, in whatever layout the kernel likes."""
        return quantize(x, *self.input, UINT8)

    @abstractmethod
    def fused(
        self, codes: Tensor, activation: Activation | None = None, output: tuple[float, int] | None = None
    ) -> Tensor:
        """The output of an input that is there as codes, in whatever layout.

        Args:
            codes: uint8, of the input's shape.
            activation: applied to the output; one of ``activations``.
            output: scale and zero point of the codes to give; None gives float32.
        """
