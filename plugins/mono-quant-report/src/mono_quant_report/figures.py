"""The numbers of a report: pure functions of tensors."""

import math
from typing import Any

import attrs
import numpy as np
import torch
from mono_quant.plugin_api import QuantizedLayer, WeightSpec, sum_sqnr_db
from torch import Tensor, nn

__all__ = [
    "Ends",
    "Histogram",
    "Weight",
    "bin_edges",
    "bins_for",
    "channel_ends",
    "code_ends",
    "histogram",
    "input_code_ends",
    "sqnr",
    "total_bytes",
]

_SYMMETRIC_INT8 = -127
_NARROW = 1e-9
_FEWEST_BINS, _MOST_BINS = 20, 120

Ends = tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]
"""Lower and upper ends, float64."""


@attrs.frozen(kw_only=True, eq=False)
class Weight:
    """One quantized parameter of a layer.

    Args:
        name: of the parameter.
        spec: how it is stored.
        stored: its tensors by suffix.
        decoded: what the codes stand for, float32, ``spec.shape``.
        original: the float weight, of the same shape; None when that is not known.
    """

    name: str
    spec: WeightSpec
    stored: dict[str, Tensor]
    decoded: Tensor
    original: Tensor | None


@attrs.frozen(kw_only=True, eq=False)
class Histogram:
    """How many values lie between neighbouring edges.

    Args:
        edges: even steps from the smallest to the largest value of both, ``(B + 1,)``.
        floats: counts of the float weight, ``(B,)``; None when that is not known.
        decoded: counts of what its codes stand for, ``(B,)``.
    """

    edges: "np.ndarray[Any, Any]"
    floats: "np.ndarray[Any, Any] | None"
    decoded: "np.ndarray[Any, Any]"


def histogram(original: Tensor | None, decoded: Tensor) -> Histogram:
    """That of a float weight and of what its codes stand for, over the finite values of both."""
    codes = _finite(decoded)
    floats = None if original is None else _finite(original)
    edges = bin_edges([codes] if floats is None else [codes, floats], bins_for(decoded.numel()))
    return Histogram(
        edges=edges,
        floats=None if floats is None else np.histogram(floats, edges)[0],
        decoded=np.histogram(codes, edges)[0],
    )


def bin_edges(parts: "list[np.ndarray[Any, Any]]", bins: int) -> "np.ndarray[Any, Any]":
    """Even steps from the smallest to the largest of some finite values; about them where they are all but one number.

    numpy's own edges refuse a range of too few float64 numbers, as that of one large one.
    """
    ends = [float(end) for values in parts if values.size for end in (values.min(), values.max())] or [0.0]
    low, high = min(ends), max(ends)
    largest = max(abs(low), abs(high))
    reach = 0.5 * largest or 0.5
    is_wide = high - low > _NARROW * largest
    return np.linspace(low, high, bins + 1) if is_wide else np.linspace(low - reach, high + reach, bins + 1)


def bins_for(count: int) -> int:
    """How many bins a histogram of so many values has: the root of the number, from 20 to 120."""
    return min(max(_FEWEST_BINS, math.isqrt(count)), _MOST_BINS)


def sqnr(weights: list[Weight]) -> float | None:
    """SQNR in dB of all weights of a layer; None when there is none, or a float weight is not known."""
    if not weights or any(weight.original is None for weight in weights):
        return None
    return sum_sqnr_db((weight.original, weight.decoded) for weight in weights if weight.original is not None)


def channel_ends(tensor: Tensor, spec: WeightSpec) -> Ends:
    """Smallest and largest value of each output channel, ``(C,)`` each."""
    channels = tensor.detach().movedim(spec.axis, 0).reshape(spec.channels, spec.per_channel)
    low, high = torch.aminmax(channels.float(), dim=1)
    return _numpy(low), _numpy(high)


def code_ends(stored: dict[str, Tensor], spec: WeightSpec) -> Ends:
    """The ends of what the codes of each output channel can express, ``(C,)`` each; of its widest groups.

    ``(q - zero_point) · scale`` for the lowest and the highest code. Symmetric int8 codes do not go below -127.
    """
    lowest = _SYMMETRIC_INT8 if spec.symmetric and spec.dtype.name == "int8" else spec.dtype.qmin
    scale = stored["_scale"].double()
    zero_point = stored["_zero_point"].double() if "_zero_point" in stored else torch.zeros_like(scale)
    ends = []
    for code in (lowest, spec.dtype.qmax):
        by_group = ((code - zero_point) * scale).reshape(-1, 1 if scale.ndim <= 1 else scale.shape[1])
        widest = by_group.amin(dim=1) if code == lowest else by_group.amax(dim=1)
        ends.append(_numpy(widest.expand(spec.channels)))
    return ends[0], ends[1]


def input_code_ends(layer: QuantizedLayer) -> tuple[float, float] | None:
    """The ends of what the codes of a layer's input can express; None when it has no fixed scale."""
    if layer.input_spec is None or layer.input_qparams is None:
        return None
    scale, zero_point = (tensor.double() for tensor in layer.input_qparams)
    codes = layer.input_spec.dtype.qmin, layer.input_spec.dtype.qmax
    low, high = (float((code - zero_point) * scale) for code in codes)
    return low, high


def total_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and buffers, shared ones once."""
    tensors = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    return sum(t.numel() * t.element_size() for t in tensors.values() if not nn.parameter.is_lazy(t))


def _numpy(tensor: Tensor) -> "np.ndarray[Any, Any]":
    return tensor.double().cpu().numpy()


def _finite(tensor: Tensor) -> "np.ndarray[Any, Any]":
    values = tensor.detach().flatten().float().cpu().numpy()
    return values[np.isfinite(values)]
