"""Kernels with one bug each."""

import time
from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import Tensor

from mono_quant.core.affine import dequantize, quantize
from mono_quant.core.qtypes import UINT8
from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.plugin_api import Activation, FusedRun, Kernel, Op, QuantizedOp, Support
from mono_quant.testing import KernelSuite

FINDS: dict[type[KernelSuite], str] = {}
Run = Callable[[Tensor], Tensor]
WORST = "test_it_equals_the_reference_on_the_worst_weights_and_inputs"


class Right(Kernel):
    """The reference for linear layers with quantized inputs."""

    def supports(self, op: Op, device: torch.device) -> Support:
        return Support() if isinstance(op, QuantizedOp) and op.kind == "linear" else Support.no("it is not linear")

    def pack(self, op: Op) -> Run:
        return ReferenceKernel().pack(op)


def planted(test: str) -> Any:
    def wrap(kernel: type[Kernel]) -> type[Kernel]:
        members = {
            "kinds": ("linear",),
            "make": lambda self: kernel(),
            "__module__": __name__,
        }
        suite = type(f"Test{kernel.__name__}", (KernelSuite,), members)
        globals()[suite.__name__] = suite
        FINDS[suite] = test
        return kernel

    return wrap


@planted(WORST)
class ForgetsTheZeroPoint(Right):
    def pack(self, op: Op) -> Run:
        shift = op.weight.float().sum(1) * op.weight_scale * (op.input_scale or 0) * (op.input_zero_point or 0)
        run = super().pack(op)
        return lambda x: run(x) + shift


@planted(WORST)
class ForgetsTheBias(Right):
    def pack(self, op: Op) -> Run:
        return super().pack(attrs.evolve(op, bias=None))


@planted(WORST)
class ClipsSums(Right):
    """Clips where pairs would be clipped in int16, and does not say so."""

    def pack(self, op: Op) -> Run:
        run, most = super().pack(op), 64 * 255 * 2
        unit = op.weight_scale * (op.input_scale or 1)
        bias = 0 if op.bias is None else op.bias
        return lambda x: ((run(x) - bias) / unit).clamp(-most, most) * unit + bias


@planted(WORST)
class RoundsDown(Right):
    def pack(self, op: Op) -> Run:
        run = super().pack(op)
        return lambda x: run(x - 0.5 * (op.input_scale or 0))


@planted(WORST)
class IsWrongForOneRow(Right):
    def pack(self, op: Op) -> Run:
        run = super().pack(op)
        return lambda x: run(x) * (1.001 if len(x) == 1 else 1)


@planted("test_each_input_may_have_its_own_range")
class RemembersTheFirstRange(Right):
    def pack(self, op: Op) -> Run:
        kept: list[tuple[float, int]] = []

        def run(x: Tensor) -> Tensor:
            kept[1:] = []
            if not kept:
                kept.append(op.input_qparams(x))
            scale, zero_point = kept[0]
            return ReferenceKernel().pack(attrs.evolve(op, input_scale=scale, input_zero_point=zero_point))(x)

        return run


@planted("test_the_output_is_new_float32")
class ReusesItsOutput(Right):
    def pack(self, op: Op) -> Run:
        run, kept = super().pack(op), {}
        return lambda x: kept.setdefault(x.shape, run(x)).copy_(run(x))


@planted("test_the_output_is_new_float32")
class GivesDoubles(Right):
    def pack(self, op: Op) -> Run:
        run = super().pack(op)
        return lambda x: run(x).double()


@planted("test_input_and_op_are_left_as_they_were")
class WritesIntoItsInput(Right):
    def pack(self, op: Op) -> Run:
        run = super().pack(op)
        return lambda x: (run(x), x.zero_())[0]


@planted("test_it_says_no_to_what_it_does_not_know")
class SaysYesToEverything(Right):
    def supports(self, op: Op, device: torch.device) -> Support:
        return Support()


@planted("test_it_runs_what_it_is_for")
class SaysNoToEverything(Right):
    def supports(self, op: Op, device: torch.device) -> Support:
        return Support.no("it is tired")


@planted("test_the_strides_of_the_input_do_not_matter")
class ReadsMemoryInOrder(Right):
    def pack(self, op: Op) -> Run:
        run = super().pack(op)
        return lambda x: run(x.as_strided(x.shape, torch.empty(x.shape).stride()))


@planted("test_the_strides_of_the_input_do_not_matter")
class ForgetsWhereItsInputBegins(Right):
    def pack(self, op: Op) -> Run:
        run = super().pack(op)
        return lambda x: run(x.as_strided(x.shape, x.stride(), 0))


@planted("test_the_strides_of_the_input_do_not_matter")
class TakesNoStrideOfZero(Right):
    def pack(self, op: Op) -> Run:
        run = super().pack(op)
        return lambda x: run(x if all(x.stride()) else torch.zeros_like(x))


@planted("test_the_output_may_be_written_into")
class KeepsItsLastOutput(Right):
    def pack(self, op: Op) -> Run:
        run, kept = super().pack(op), {}

        def remembering(x: Tensor) -> Tensor:
            if kept.get("of") is not x:
                kept.update(of=x, output=run(x))
            return kept["output"]

        return remembering


@planted("test_threads_do_not_disturb_each_other")
class HasOneScratch(Right):
    def pack(self, op: Op) -> Run:
        run, scratch = super().pack(op), {}

        def by_scratch(x: Tensor) -> Tensor:
            scratch["x"] = x
            time.sleep(0.001)  # where other threads run
            return run(scratch["x"])

        return by_scratch


@planted("test_threads_may_pack_at_once")
class PacksInOnePlace(Right):
    def pack(self, op: Op) -> Run:
        self.op = op
        time.sleep(0.001)
        return super().pack(self.op)


@planted("test_two_layers_do_not_mix")
class KeepsOneLayer(Right):
    def pack(self, op: Op) -> Run:
        self.packed = super().pack(op)
        return lambda x: self.packed(x)  # noqa: PLW0108 - what is packed when it runs, not now


@planted("test_the_kernel_travels_with_a_pickled_model")
class CannotBePickled(Right):
    def __init__(self) -> None:
        self.handle = lambda: None


@planted("test_surroundings_do_not_matter")
class FollowsTheDefaultDtype(Right):
    def pack(self, op: Op) -> Run:
        run = super().pack(op)
        return lambda x: run(x).to(torch.get_default_dtype())


@planted("test_the_same_input_gives_the_same_bits")
class Dithers(Right):
    def pack(self, op: Op) -> Run:
        run = super().pack(op)
        return lambda x: run(x) * (1 + 2**-23 * torch.randint(2, (1,)))


class Steps(FusedRun):
    """The steps one by one, each of which a bug can take the place of."""

    activations = frozenset(["relu", "hardtanh"])

    def __init__(self, op: QuantizedOp) -> None:
        super().__init__(op)
        bias = None if op.bias is None else op.bias.clone()
        self.op = attrs.evolve(op, weight=op.weight.clone(), weight_scale=op.weight_scale.clone(), bias=bias)

    def fused(
        self, codes: Tensor, activation: Activation | None = None, output: tuple[float, int] | None = None
    ) -> Tensor:
        scale, zero_point = self.input
        y = ReferenceKernel().pack(self.op)(self.floats(codes, scale, zero_point))
        y = self.activated(y, activation)
        return y if output is None else self.as_codes(y, *output)

    def floats(self, codes: Tensor, scale: float, zero_point: int) -> Tensor:
        return dequantize(codes, scale, zero_point)

    def activated(self, y: Tensor, activation: Activation | None) -> Tensor:
        return y if activation is None else activation(y)

    def as_codes(self, y: Tensor, scale: float, zero_point: int) -> Tensor:
        return quantize(y, scale, zero_point, UINT8)


class Fuses(Right):
    run: type[Steps] = Steps

    def pack(self, op: Op) -> Run:
        return ReferenceKernel().pack(op) if op.input_scale is None else self.run(op)


planted("")(Fuses)
FUSED = "test_what_it_fuses_equals_the_steps_one_by_one"


@planted(FUSED)
class ForgetsTheActivation(Fuses):
    class run(Steps):  # noqa: N801
        def activated(self, y: Tensor, activation: Activation | None) -> Tensor:
            return y


@planted(FUSED)
class ForgetsTheBoundsOfHardtanh(Fuses):
    class run(Steps):  # noqa: N801
        def activated(self, y: Tensor, activation: Activation | None) -> Tensor:
            return super().activated(
                y, activation and Activation(activation.name, activation.arguments and (-1.0, 1.0))
            )


@planted(FUSED)
class CutsCodesOff(Fuses):
    """Rounds towards zero."""

    class run(Steps):  # noqa: N801
        def as_codes(self, y: Tensor, scale: float, zero_point: int) -> Tensor:
            return (y / scale + zero_point).clamp(0, 255).to(torch.uint8)


@planted(FUSED)
class WrapsCodesAround(Fuses):
    class run(Steps):  # noqa: N801
        def as_codes(self, y: Tensor, scale: float, zero_point: int) -> Tensor:
            return ((y / scale).round() + zero_point).remainder(256).to(torch.uint8)


@planted(FUSED)
class GivesSignedCodes(Fuses):
    class run(Steps):  # noqa: N801
        def as_codes(self, y: Tensor, scale: float, zero_point: int) -> Tensor:
            return super().as_codes(y, scale, zero_point).view(torch.int8)


@planted(FUSED)
class MisspellsAnActivation(Fuses):
    class run(Steps):  # noqa: N801
        activations = frozenset(["relu", "hardtan"])


@planted("test_an_output_that_is_fused_later_is_of_the_layer_as_it_was_packed")
class SharesMemoryWithTheOp(Fuses):
    class run(Steps):  # noqa: N801
        def __init__(self, op: QuantizedOp) -> None:
            super().__init__(op)
            self.op = op


planted("")(Right)
