"""What is found out about this machine by trying."""

import planted_kernels as planted
import pytest
import torch
from planted_kernels import Run
from torch import Tensor

from mono_quant.kernels.probe import failure, pairs_int16
from mono_quant.kernels.saturation import worst_conv, worst_linear
from mono_quant.plugin_api.kernel import Kernel, QuantizedOp, Support

BOTH = (worst_linear, worst_conv)


class Probed(Kernel):
    """The reference; counts what it packs."""

    packed = 0

    def supports(self, op: QuantizedOp, device: torch.device) -> Support:
        del op, device
        return Support()

    def pack(self, op: QuantizedOp) -> Run:
        type(self).packed += 1
        return planted.right(op)


class Clipping(Probed):
    """Adds pairs in int16 in linear layers, exactly as the CPU does."""

    def pack(self, op: QuantizedOp) -> Run:
        if op.kind != "linear":
            return planted.right(op)

        def run(x: Tensor) -> Tensor:
            pairs = (x.long()[:, None] * op.weight.long()).unflatten(2, (-1, 2)).sum(dim=3)
            return pairs.clamp(-(2**15), 2**15 - 1).sum(dim=2).float() * op.weight_scale * op.input_scale

        return run


class Failing(Probed):
    """Cannot run convolutions here."""

    error: Exception = RuntimeError("no primitive")

    def pack(self, op: QuantizedOp) -> Run:
        if op.kind == "linear":
            return planted.right(op)
        raise self.error


def test_a_kernel_that_runs_has_no_failure():
    assert failure(Probed, BOTH) == ""
    assert not pairs_int16(Probed, BOTH)


def test_what_is_found_is_found_once():
    class Counted(Probed):
        packed = 0

    for _ in range(3):
        failure(Counted, BOTH)
        pairs_int16(Counted, BOTH)
    assert Counted.packed == 4


@pytest.mark.parametrize("error", [RuntimeError, AttributeError, NotImplementedError])
def test_a_kernel_that_cannot_run_one_kind_of_layer_says_how_it_fails(error: type[Exception]):
    cls: type[Failing] = type("Failing", (Failing,), {"error": error("no primitive")})
    assert failure(cls, BOTH) == f"torch {torch.__version__} cannot run it: no primitive"
    assert failure(cls, (worst_linear,)) == ""
    assert not pairs_int16(cls, BOTH)


def test_an_error_that_means_a_mistake_in_the_kernel_is_not_hidden():
    cls: type[Failing] = type("Failing", (Failing,), {"error": ZeroDivisionError("a mistake")})
    with pytest.raises(ZeroDivisionError):
        failure(cls, BOTH)


def test_pairing_is_found_in_any_of_the_layers():
    assert pairs_int16(Clipping, (worst_linear,))
    assert pairs_int16(Clipping, (worst_conv, worst_linear))
    assert not pairs_int16(Clipping, (worst_conv,))
