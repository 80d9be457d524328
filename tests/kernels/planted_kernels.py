"""Kernels that are wrong in one way each, and a right one to begin with."""

from collections.abc import Callable

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from mono_quant.core.affine import dequantize, quantize
from mono_quant.core.qtypes import UINT8
from mono_quant.kernels.reference import ReferenceKernel, integer_sum
from mono_quant.plugin_api import Activation, FusedRun
from mono_quant.plugin_api.kernel import Kernel, QuantizedOp, Support

Run = Callable[[Tensor], Tensor]


class Planted(Kernel):
    """Computes ``pack_as`` of the op; counts how often it packs and runs."""

    def __init__(self, pack_as: Callable[[QuantizedOp], Run], *, pairs_int16: bool = False, refusal: str = "") -> None:
        self.pack_as = pack_as
        self.pairs_int16 = pairs_int16
        self.refusal = refusal
        self.packed = 0
        self.ran = 0

    def supports(self, op: QuantizedOp, device: torch.device) -> Support:
        del op, device
        return Support(self.refusal)

    def pack(self, op: QuantizedOp) -> Run:
        self.packed += 1
        run = self.pack_as(op)
        if isinstance(run, FusedRun):
            return run

        def counted(x: Tensor) -> Tensor:
            self.ran += 1
            return run(x)

        return counted


def plant(pack_as: Callable[[QuantizedOp], Run], *, pairs_int16: bool = False, refusal: str = "") -> Planted:
    """A kernel of a class of its own: verdicts are kept by class, because kernels have no state."""
    cls: type[Planted] = type(pack_as.__name__, (Planted,), {})
    return cls(pack_as, pairs_int16=pairs_int16, refusal=refusal)


def right(op: QuantizedOp) -> Run:
    return ReferenceKernel().pack(op)


def another_zero_point(op: QuantizedOp) -> Run:
    qparams = {} if op.input_zero_point is None else {"input_zero_point": op.input_zero_point + 1}
    return right(attrs.evolve(op, **qparams))


def no_bias(op: QuantizedOp) -> Run:
    return right(attrs.evolve(op, bias=None))


def first_scale_for_all(op: QuantizedOp) -> Run:
    return right(attrs.evolve(op, weight_scale=op.weight_scale[:1].expand(len(op.weight_scale))))


def padding_with_code_zero(op: QuantizedOp) -> Run:
    run = right(attrs.evolve(op, padding=(0,) * len(op.padding)))
    sides = [side for padding in reversed(op.padding) for side in (padding, padding)]
    return lambda x: run(functional.pad(x, sides, value=-op.input_zero_point * op.input_scale))


def no_padding(op: QuantizedOp) -> Run:
    return right(attrs.evolve(op, padding=(0,) * len(op.padding)))


def activations_of_seven_bits(op: QuantizedOp) -> Run:
    run = right(op)
    return lambda x: run(x.clamp(max=(127 - op.input_zero_point) * op.input_scale))


def rounding_down(op: QuantizedOp) -> Run:
    run = right(op)
    return lambda x: run((x / op.input_scale - 0.499).round() * op.input_scale)


def no_negative_weights(op: QuantizedOp) -> Run:
    return right(attrs.evolve(op, weight=op.weight.clamp(min=0)))


def last_channel_left_out(op: QuantizedOp) -> Run:
    weight = op.weight.clone()
    weight[:, -1] = 0
    return right(attrs.evolve(op, weight=weight))


def wrong_where_depthwise(op: QuantizedOp) -> Run:
    return no_bias(op) if op.weight.shape[0] == op.groups else right(op)


def sums_in_half_precision(op: QuantizedOp) -> Run:
    scale = op.weight_scale * op.input_scale

    def run(x: Tensor) -> Tensor:
        codes = quantize(x, op.input_scale, op.input_zero_point, UINT8).float() - op.input_zero_point
        return integer_sum(codes, op.weight.float(), op).bfloat16().float() * scale + op.bias

    return run


def pairs_added_in_int16(op: QuantizedOp) -> Run:
    """What the fast kernels do without VNNI, for Linear."""

    def run(x: Tensor) -> Tensor:
        codes = functional.pad(quantize(x, op.input_scale, op.input_zero_point, UINT8).long(), (0, x.shape[1] % 2))
        weight = functional.pad(op.weight.long(), (0, x.shape[1] % 2))
        products = codes[:, None] * weight
        pairs = products.unflatten(2, (-1, 2)).sum(dim=3).clamp(-(2**15), 2**15 - 1)
        total = pairs.sum(dim=2) - op.input_zero_point * weight.sum(dim=1)
        return total.float() * (op.weight_scale * op.input_scale) + op.bias

    return run


def nan(op: QuantizedOp) -> Run:
    return lambda x: right(op)(x) * float("nan")


def infinite(op: QuantizedOp) -> Run:
    return lambda x: right(op)(x) * float("inf")


def another_shape(op: QuantizedOp) -> Run:
    return lambda x: right(op)(x)[None]


def another_dtype(op: QuantizedOp) -> Run:
    return lambda x: right(op)(x).double()


def weights_in_reverse(op: QuantizedOp) -> Run:
    """Each input channel meets the weights of another, which weights that are all the same do not tell."""
    return right(attrs.evolve(op, weight=op.weight.flip(1)))


def _passes(op: QuantizedOp) -> bool:
    """A layer of the verification, which has scales like this, or any that is narrow."""
    return op.weight.shape[1] <= 7 or bool(op.weight_scale[0] == torch.tensor(0.001))


def failing_on_real_layers_when_packed(op: QuantizedOp) -> Run:
    """Passes its verification, whose layers have other scales."""
    if not _passes(op):
        raise RuntimeError("no room to pack it")
    return right(op)


def failing_on_real_layers_when_run(op: QuantizedOp) -> Run:
    """Likewise."""
    if _passes(op):
        return right(op)

    def run(x: Tensor) -> Tensor:
        raise ValueError(f"no workspace for {len(x)} rows")

    return run


def failing_on_real_layers_when_codes_are_asked_for(op: QuantizedOp) -> Run:
    """Likewise."""
    return right(op) if _passes(op) or op.input_scale is None else _WithoutCodes(op)


class _WithoutCodes(FusedRun):
    def __init__(self, op: QuantizedOp) -> None:
        super().__init__(op)
        self.op = op

    def fused(
        self, codes: Tensor, activation: Activation | None = None, output: tuple[float, int] | None = None
    ) -> Tensor:
        del activation
        if output is not None:
            raise RuntimeError("no room for codes")
        return right(self.op)(dequantize(codes, *self.input))


def failing_on_negative_weights(op: QuantizedOp) -> Run:
    """Of real layers; likewise."""
    return failing_on_real_layers_when_packed(op) if (op.weight < 0).all() else right(op)


def failing_when_packed(op: QuantizedOp) -> Run:
    raise RuntimeError(f"no primitive for {op.kind}")


def failing_when_run(op: QuantizedOp) -> Run:
    def run(x: Tensor) -> Tensor:
        raise NotImplementedError(f"{op.kind} of {x.dtype}")

    return run
