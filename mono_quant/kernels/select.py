"""Which kernel runs a layer: the fastest of those that can and that were verified, by measurement on the real input."""

import time
from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import Tensor

from mono_quant.errors import ConfigurationError
from mono_quant.kernels.verify import kind_of, verify
from mono_quant.plugin_api.kernel import Kernel, QuantizedOp, Support

__all__ = ["NamedKernel", "choose", "forget_measurements", "size_class", "supports"]

NamedKernel = tuple[str, Kernel]
"""A registry name and the kernel."""

_SLOW = "reference"
_REPEATS = 5

_verified: dict[object, Support] = {}
_fastest: dict[object, str] = {}


def choose(op: QuantizedOp, x: Tensor, kernels: Sequence[NamedKernel], wanted: str) -> NamedKernel:
    """The kernel for an op and inputs of the size of ``x``.

    Args:
        op: the layer's arithmetic.
        x: a real input, float32.
        kernels: what there is; all of them are asked.
        wanted: ``"auto"``, or the name of a kernel, which is taken where it supports the op.

    Raises:
        ConfigurationError: when no kernel can run the op.
    """
    verdicts = {name: supports(kernel, op, x.device) for name, kernel in kernels}
    able = {name: kernel for name, kernel in kernels if verdicts[name]}
    if not able:
        why = "; ".join(f"{name}: {verdict.why_not}" for name, verdict in verdicts.items()) or "none is registered"
        raise ConfigurationError(f"no kernel can run this {op.kind} on {x.device}: {why}")
    # The reference is the definition, not a competitor: it runs when asked for, or when nothing else can.
    fast = [wanted] if wanted in able else [name for name in able if name != _SLOW] or [_SLOW]
    if len(fast) == 1:
        return fast[0], able[fast[0]]
    key = (*_signature(op, x), *fast)
    if key not in _fastest:
        # One after the other, so that only one packed weight is in memory at a time.
        times = {name: _measure(able[name].pack(op), x) for name in fast}
        _fastest[key] = min(fast, key=times.__getitem__)
    return _fastest[key], able[_fastest[key]]


def supports(kernel: Kernel, op: QuantizedOp, device: torch.device) -> Support:
    """Whether a kernel runs an op exactly: its own word, the saturation rule, and one verification a kind of layer."""
    try:
        verdict, pairs_int16 = kernel.supports(op, device), kernel.pairs_int16
    except Exception as error:  # noqa: BLE001 - a third party's kernel that nobody asked for must not stop the model
        return Support.no(f"it raised {type(error).__name__}: {error}")
    if not verdict:
        return verdict
    if pairs_int16 and not op.is_pair_safe:
        return Support.no("this CPU adds products in int16 and the weights are full-range, so sums would be clipped")
    key = (type(kernel), kind_of(op), device)
    if key not in _verified:
        _verified[key] = verify(kernel, op)
    return _verified[key]


def size_class(x: Tensor) -> int:
    """Inputs of one class share a choice: powers of two of the number of elements."""
    return x.numel().bit_length()


def forget_measurements() -> None:
    """Measure and verify anew from now on."""
    _verified.clear()
    _fastest.clear()


def _signature(op: QuantizedOp, x: Tensor) -> tuple[object, ...]:
    return (*kind_of(op), tuple(op.weight.shape), op.groups, size_class(x), x.device, torch.get_num_threads())


def _measure(run: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Median seconds of a few runs; the first, which warms caches, does not count."""
    times = []
    for _ in range(_REPEATS + 1):
        start = time.perf_counter()
        run(x)
        times.append(time.perf_counter() - start)
    return median(times[1:])
