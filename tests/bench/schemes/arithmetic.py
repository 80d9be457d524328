"""What a quantized layer computes, against what is exact."""

import copy
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.kernels.select import NamedKernel, supports
from mono_quant.modules import QuantizedModule
from mono_quant.plugin_api import Kernel, Op, QuantizedOp

__all__ = ["Error", "float64_twin", "kernel_errors", "layer_error", "ops_of", "run", "same_bits", "use"]

_CPU = torch.device("cpu")
_INTEGER_ROUNDINGS = 8
"""Of an exact sum: to float32, by the product of the scales, which is itself rounded, by the bias, and with room."""
_BFLOAT16_ROUNDINGS = 4
"""Of inputs, scales, zeros and outputs."""
_NEAR = 1e-3
_LSTM = "LSTM with projections is not supported with oneDNN"


class _Recorder(ReferenceKernel):
    """Notes what it is asked to run."""

    def __init__(self) -> None:
        self.calls: list[tuple[Op, Tensor]] = []

    def pack(self, op: Op) -> Callable[[Tensor], Tensor]:
        exact = super().pack(op)

        def recorded(x: Tensor) -> Tensor:
            self.calls.append((op, x.clone()))
            return exact(x)

        return recorded


def run(layer: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """All tensors in the output."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_LSTM)
        return list(_tensors_of(layer(*inputs)))


def use(layer: nn.Module, kernels: tuple[NamedKernel, ...], wanted: str) -> None:
    """Let a layer and those inside choose from these."""
    for module in layer.modules():
        if isinstance(module, QuantizedModule):
            module.use_kernels(kernels, wanted)


def ops_of(layer: nn.Module, inputs: tuple[Tensor, ...]) -> list[tuple[Op, Tensor]]:
    """What a layer asks kernels to run, each with its input."""
    recorder = _Recorder()
    use(layer, (("recorder", recorder),), "recorder")
    run(layer, inputs)
    recorder.calls.clear()  # of the tests that a kernel must pass before it is used
    run(layer, inputs)
    return recorder.calls


@attrs.frozen
class Error:
    """The largest difference from what is exact.

    Args:
        steps: in units of the float type's step at the largest output: 2^-23 of that for float32, 2^-7 for bfloat16.
        limit: what rounding explains.
    """

    steps: float
    limit: float


def kernel_errors(kernels: Iterable[NamedKernel], ops: Iterable[tuple[Op, Tensor]]) -> dict[str, Error]:
    """Kernel → its largest difference from the reference; only those that support one of the ops."""
    errors: dict[str, Error] = {}
    for op, seen in ops:
        x = _away_from_ties(seen, op)
        expected = ReferenceKernel().pack(op)(x)
        for name, kernel in kernels:
            if name != "reference" and supports(kernel, op, _CPU):
                steps = _difference(kernel.pack(op)(x), expected) / torch.finfo(kernel.precision).eps
                if steps >= errors.get(name, Error(0, 0)).steps:
                    errors[name] = Error(steps, _limit(kernel, op))
    return errors


def layer_error(outputs: list[Tensor], exact: list[Tensor], terms: int) -> Error:
    """Of a float32 layer against float64; ``terms`` is the number of them in its longest sum."""
    differences = [_difference(ours, right) for ours, right in zip(outputs, exact, strict=True)]
    return Error(max(differences) / torch.finfo(torch.float32).eps, _limit_of_sum(terms))


def float64_twin(layer: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """The float layer in float64 with other weights, by the names of its parameters."""
    twin = copy.deepcopy(layer).double()
    for name, weight in weights.items():
        twin.get_parameter(name).copy_(weight)
    return twin


def _tensors_of(output: Any) -> Iterator[Tensor]:  # noqa: ANN401 - whatever a layer gives
    """The tensors in nested tuples."""
    if isinstance(output, Tensor):
        yield output
    else:
        for inner in output:
            yield from _tensors_of(inner)


def same_bits(ones: list[Tensor], others: list[Tensor]) -> bool:
    """Whether two outputs are equal in every bit."""
    return len(ones) == len(others) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
        for a, b in zip(ones, others, strict=True)
    )


def _difference(actual: Tensor, expected: Tensor) -> float:
    """As a part of the largest number expected; infinite where shapes or dtypes differ, or a result is no number."""
    if actual.shape != expected.shape or actual.dtype != torch.float32:
        return math.inf
    difference = float((actual.double() - expected.double()).abs().max() / expected.double().abs().max())
    return math.inf if math.isnan(difference) else difference


def _limit(kernel: Kernel, op: Op) -> float:
    if isinstance(op, QuantizedOp):
        return _INTEGER_ROUNDINGS
    return _BFLOAT16_ROUNDINGS if kernel.precision == torch.bfloat16 else _limit_of_sum(op.spec.per_channel)


def _limit_of_sum(terms: int) -> float:
    """The roundings of a float sum add up like the steps of a random walk."""
    return max(_INTEGER_ROUNDINGS, 2 * math.sqrt(terms))


def _away_from_ties(x: Tensor, op: Op) -> Tensor:
    """The input without numbers near the middle between two codes: there, kernels may take either.

    See "Near ties" in docs/explanation/numerics.md.
    """
    if not isinstance(op, QuantizedOp):
        return x
    scale, _ = op.input_qparams(x)
    steps = x.double() / scale
    is_near = ((steps - steps.floor()) - 0.5).abs() < _NEAR
    is_inside = (x > x.min()) & (x < x.max())  # the ends decide on the range of a dynamic input
    return torch.where(is_near & is_inside, (steps.floor() + 0.25) * scale, x.double()).float()
