"""Which kernel runs a layer: the fastest of those that can and that were verified, by measurement on the real input."""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median

import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch

from mono_quant._user_line import level_of_the_user
from mono_quant.errors import ConfigurationError, PluginError, QuantizationWarning
from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.kernels.verify import kind_of, verify
from mono_quant.plugin_api.kernel import FusedRun, Kernel, Op, QuantizedOp, Support, WeightOnlyOp

__all__ = ["NamedKernel", "choose", "forget_measurements", "size_class", "supports"]

NamedKernel = tuple[str, Kernel]
"""A registry name and the kernel."""

Packed = Callable[[Tensor], Tensor]
"""What a kernel makes of an op: from the float32 input to the float32 output."""

_SLOW = "reference"
_REPEATS = 5

_verified: dict[object, Support] = {}
_fastest: dict[object, str] = {}
_ran: set[object] = set()
_failed: dict[object, Support] = {}
_warned: set[object] = set()


def choose(
    op: Op,
    x: Tensor,
    kernels: Sequence[NamedKernel],
    wanted: str,
    packed: Mapping[str, Packed] | None = None,
) -> tuple[str, Packed]:
    """The kernel for an op and inputs of the size of ``x``, by name, and the op packed by it.

    A kernel that fails on the real layer or input is left out with a warning, and another is chosen.

    Args:
        op: the layer's arithmetic.
        x: a real input, float32.
        kernels: what there is; all of them are asked.
        wanted: ``"auto"``, or the name of a kernel, which is taken where it supports the op.
        packed: this op as some kernels have packed it already, by their names.

    Raises:
        ConfigurationError: when no kernel can run the op.
        PluginError: when the kernel that was asked for by name fails.
    """
    while True:
        able = _able(op, x, kernels)
        # The reference is the definition, not a competitor: it runs when asked for, or when nothing else can.
        fast = [wanted] if wanted in able else [name for name in able if name != _SLOW] or [_SLOW]
        name = fast[0] if len(fast) == 1 else _quickest({name: able[name] for name in fast}, op, x)
        if name is None:
            continue
        with _leaving_out(name, able[name], op, x, is_asked=name == wanted):
            run = (packed or {}).get(name) or able[name].pack(op)
            # Where several compete, they have run to be measured.
            if len(fast) == 1 and name != _SLOW and (*_signature(op, x), name) not in _ran:
                _try(run, x)
                _ran.add((*_signature(op, x), name))
            return name, run


def supports(kernel: Kernel, op: Op, device: torch.device) -> Support:
    """Whether a kernel runs an op exactly: its own word, the saturation rule, and one verification a kind of layer."""
    try:
        verdict, pairs_int16 = kernel.supports(op, device), kernel.pairs_int16
    except Exception as error:  # noqa: BLE001 - a third party's kernel that nobody asked for must not stop the model
        return Support.no(f"it raised {type(error).__name__}: {error}")
    if not verdict:
        return verdict
    if pairs_int16 and isinstance(op, QuantizedOp) and not op.is_pair_safe:
        return Support.no("this CPU adds products in int16 and the weights are full-range, so sums would be clipped")
    key = (type(kernel), kind_of(op), device)
    if key not in _verified:
        _verified[key] = verify(kernel, op)
    return _verified[key]


def size_class(shape: torch.Size) -> int:
    """Inputs of one class share a choice: powers of two of the number of elements."""
    return shape.numel().bit_length()


def forget_measurements() -> None:
    """Measure and verify anew from now on."""
    for known in (_verified, _fastest, _ran, _failed, _warned):
        known.clear()


def _able(op: Op, x: Tensor, kernels: Sequence[NamedKernel]) -> dict[str, Kernel]:
    """The kernels that can run the op and have not failed on a layer and input like these."""
    verdicts: dict[str, Support] = {}
    for name, kernel in kernels:
        failure = _failed.get((type(kernel), *_signature(op, x)))
        verdicts[name] = supports(kernel, op, x.device) if failure is None else failure
    able = {name: kernel for name, kernel in kernels if verdicts[name]}
    if not able:
        why = "; ".join(f"{name}: {verdict.why_not}" for name, verdict in verdicts.items()) or "none is registered"
        raise ConfigurationError(f"no kernel can run this {op.kind} on {x.device}: {why}")
    return able


def _quickest(kernels: Mapping[str, Kernel], op: Op, x: Tensor) -> str | None:
    """The fastest kernel, measured once for layers and inputs like these; None when all of them fail."""
    key = (*_signature(op, x), *kernels)
    if key not in _fastest:
        times: dict[str, float] = {}
        for name, kernel in kernels.items():
            # One after the other, so that only one packed weight is in memory at a time.
            with _leaving_out(name, kernel, op, x, is_asked=False):
                times[name] = _measure(kernel.pack(op), x)
        if not times:
            return None
        key = (*_signature(op, x), *times)
        _fastest[key] = min(times, key=times.__getitem__)
    return _fastest[key]


@contextmanager
def _leaving_out(name: str, kernel: Kernel, op: Op, x: Tensor, *, is_asked: bool) -> Iterator[None]:
    """Around work with a kernel that can run the op by its own word: when it fails, it cannot run layers like this one.

    Raises:
        PluginError: instead, when the user asked for this kernel.
    """
    try:
        yield
    except Exception as error:  # a third party's code can raise anything
        reference = ReferenceKernel()
        if reference.supports(op, x.device):
            reference.pack(op)(x)  # raises for an input that the layer cannot take: no kernel is to blame for it
        why = f"it failed with {type(error).__name__}: {error}"
        if is_asked:
            raise PluginError(f"kernel {name!r}, which was asked for, cannot run this {op.kind}: {why}") from error
        _failed[type(kernel), *_signature(op, x)] = Support.no(why)
        if (type(kernel), op.kind) not in _warned:
            _warned.add((type(kernel), op.kind))
            message = f"kernel {name!r} is not used for this {op.kind} and others like it: {why}"
            warnings.warn(message, QuantizationWarning, stacklevel=level_of_the_user())


def _signature(op: Op, x: Tensor) -> tuple[object, ...]:
    shape = (op.spec.shape, 1) if isinstance(op, WeightOnlyOp) else (tuple(op.weight.shape), op.groups)
    return (*kind_of(op), *shape, size_class(x.shape), x.device, torch.get_num_threads())


def _try(run: Packed, x: Tensor) -> None:
    """Run a layer in each way that it may be run: what fails with this layer is to fail here."""
    run(x)
    if isinstance(run, FusedRun):
        run.fused(run.encode(x), output=run.input)


def _measure(run: Packed, x: Tensor) -> float:
    """Median seconds of a few runs; the first, which warms caches, does not count, nor does what watches the model."""
    times = []
    with no_dispatch():
        _try(run, x)
        for _ in range(_REPEATS):
            start = time.perf_counter()
            run(x)
            times.append(time.perf_counter() - start)
    return median(times)
