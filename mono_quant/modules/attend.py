"""Attention between heads, in float, as `torch.nn.functional.multi_head_attention_forward` computes it.

Shape suffixes: N sequences, H heads of D features each, L queries, S keys.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from mono_quant.modules.base import is_traced

__all__ = ["attend", "attend_showing", "score_bias"]


def score_bias(
    key_padding_mask: Tensor | None, attn_mask: Tensor | None, shape: tuple[int, int, int, int], dtype: torch.dtype
) -> Tensor | None:
    """What is added to the scores: broadcasts against ``(N, H, L, S)``, ``-inf`` where a mask is True; None for none.

    Args:
        key_padding_mask: bool or float ``(N, S)``.
        attn_mask: bool or float ``(L, S)`` or ``(N · H, L, S)``.
        shape: of the scores, ``(N, H, L, S)``.
        dtype: of the scores.

    Raises:
        RuntimeError: when a mask is of another shape.
        TypeError: when one is neither bool nor float.
    """
    sequences, heads, queries, keys = shape
    bias = None
    if attn_mask is not None:
        _require("attn_mask", attn_mask, (queries, keys), (sequences * heads, queries, keys))
        bias = _added("attn_mask", attn_mask, dtype)
        bias = bias if bias.dim() == 2 else bias.reshape(shape)  # noqa: PLR2004 - axes
    if key_padding_mask is not None:
        _require("key_padding_mask", key_padding_mask, (sequences, keys))
        padding = _added("key_padding_mask", key_padding_mask, dtype)[:, None, None, :]
        bias = padding if bias is None else bias + padding
    return bias


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *, dropout: float, is_causal: bool) -> Tensor:
    """``softmax(q · kᵀ / √D + bias) · v``, by torch's fused function; a query that no key is open to gives zeros.

    Args:
        q: ``(N, H, L, D)``.
        k: ``(N, H, S, D)``.
        v: the same.
        bias: broadcasts against the scores ``(N, H, L, S)``; None where ``is_causal``.
        dropout: probability that a weight is dropped.
        is_causal: whether query ``l`` sees the keys up to ``l`` only.
    """
    return functional.scaled_dot_product_attention(q, k, v, bias, dropout, is_causal=is_causal)


def attend_showing(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *, dropout: float) -> tuple[Tensor, Tensor]:
    """The same and the weights ``(N, H, L, S)``; a query that no key is open to gives NaN in both, as torch has it."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    weights = torch.softmax(scores if bias is None else scores + bias, dim=-1)
    weights = functional.dropout(weights, dropout) if dropout else weights
    return weights @ v, weights


def _require(name: str, mask: Tensor, *shapes: tuple[int, ...]) -> None:
    if not is_traced() and tuple(mask.shape) not in shapes:
        raise RuntimeError(f"expected {name} of shape {' or '.join(map(str, shapes))}, got {tuple(mask.shape)}")


def _added(name: str, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask as numbers to add."""
    if mask.is_floating_point():
        return mask.to(dtype)
    if mask.dtype != torch.bool:
        raise TypeError(f"expected {name} of bool or float, got {mask.dtype}")
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -math.inf)
