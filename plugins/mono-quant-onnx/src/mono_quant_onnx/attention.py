"""Attention as readers look for it: two products with one softmax between them, and nothing else.

The function that ``torch.onnx`` has scales and transposes more than it must, and looks for NaN between softmax and the
second product; so much stands between the products that OpenVINO does not join them.
"""

from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript import opset21 as op

__all__ = ["attention"]

_Value = Any
"""A tensor in the graph that is being made."""


def attention(  # noqa: PLR0917 - an operator's arguments
    query: _Value,
    key: _Value,
    value: _Value,
    attn_mask: _Value = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,  # noqa: FBT001, FBT002 - torch's own
    scale: float | None = None,
    enable_gqa: bool = False,  # noqa: FBT001, FBT002 - torch's own
) -> _Value:
    """``torch.nn.functional.scaled_dot_product_attention``: ``softmax(scale · Q Kᵀ + mask) V``, float32.

    As in torch, a row whose keys are all masked gives zeros. It is told by the mask, so that NaN stays NaN.

    Raises:
        NotImplementedError: when it drops a part of what it computes.
    """
    if dropout_p:
        raise NotImplementedError("attention drops out values, in eval mode too; give it dropout_p=0.0")
    if enable_gqa:
        key, value = (_repeated(tensor, query) for tensor in (key, value))
    rank, factor = len(query.shape), _usual_scale(query) if scale is None else _constant(scale)
    scores = op.MatMul(op.Mul(query, factor), op.Transpose(key, perm=[*range(rank - 2), rank - 1, rank - 2]))
    if is_causal:
        attn_mask = _causal(query, key)
    if attn_mask is None:
        return op.MatMul(op.Softmax(scores, axis=-1), value)
    if attn_mask.dtype == ir.DataType.BOOL:
        attn_mask = _added(attn_mask)
    y = op.MatMul(op.Softmax(op.Add(scores, attn_mask), axis=-1), value)
    if is_causal:  # the first key is for all
        return y
    highest = op.ReduceMax(attn_mask, op.Constant(value_ints=[-1]), keepdims=1)
    return op.Where(op.Equal(highest, _constant(-np.inf)), _constant(0.0), y)


def _constant(number: float) -> _Value:
    return op.Constant(value_float=float(number))


def _usual_scale(query: _Value) -> _Value:
    """``1 / √D``."""
    width = query.shape[-1]
    if isinstance(width, int):
        return _constant(width**-0.5)
    return op.Reciprocal(op.Sqrt(op.Cast(op.Shape(query, start=-1), to=ir.DataType.FLOAT)))


def _causal(query: _Value, key: _Value) -> _Value:
    """The mask of keys that are later than the query, ``[T, S]``."""
    lengths = [op.Shape(tensor, start=-2, end=-1) for tensor in (query, key)]
    ones = op.Expand(op.Constant(value_int=1), op.Concat(*lengths, axis=0))
    return _added(op.Cast(op.Trilu(ones, upper=0), to=ir.DataType.BOOL))


def _added(allowed: _Value) -> _Value:
    """A mask of booleans as numbers to add."""
    return op.Where(allowed, _constant(0.0), _constant(-np.inf))


def _repeated(tensor: _Value, query: _Value) -> _Value:
    """The heads ``[N, h, S, D]`` of keys or values, each as often as queries share it: ``[N, H, S, D]``."""
    heads, shared = (op.Shape(one, start=1, end=2) for one in (query, tensor))
    one, whole = op.Constant(value_ints=[1]), op.Constant(value_ints=[-1])
    times = op.Concat(one, one, op.Div(heads, shared), one, one, axis=0)
    repeated = op.Expand(op.Unsqueeze(tensor, op.Constant(value_ints=[2])), times)
    shape = op.Concat(op.Shape(tensor, start=0, end=1), heads, whole, op.Shape(tensor, start=3), axis=0)
    return op.Reshape(repeated, shape)
