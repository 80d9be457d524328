"""Quantized ``nn.MultiheadAttention``."""

import math
from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from mono_quant.core.tensor_spec import TensorSpec, WeightSpec
from mono_quant.kernels.select import NamedKernel
from mono_quant.modules.attend import attend, attend_showing, score_bias
from mono_quant.modules.base import QuantizedModule, is_traced
from mono_quant.modules.engine import REFERENCE_ONLY, Engine
from mono_quant.modules.kernel_module import KernelModule
from mono_quant.modules.projection import project

__all__ = ["QuantizedMultiheadAttention"]

_UNBATCHED = 2
"""How many axes an input without a batch has."""
_PACKED = "in_proj_weight"
_SEPARATE = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
_THIRDS = {"qkv": slice(0, 3), "q": slice(0, 1), "kv": slice(1, 3), "k": slice(1, 2), "v": slice(2, 3)}
"""What may be projected at once → which thirds of the packed weight and bias do it."""


class QuantizedMultiheadAttention(QuantizedModule):
    """``nn.MultiheadAttention`` with int8 projections of inputs that bring their own ranges; attention itself in float.

    ==========================  ========  ==========================================================
    in the ``state_dict``       dtype     shape
    ==========================  ========  ==========================================================
    ``in_proj_weight``          int8      ``(3 · embed_dim, embed_dim)``
    ``in_proj_weight_scale``    float32   ``(3 · embed_dim,)``
    ``in_proj_bias``            float     ``(3 · embed_dim,)``, where there is one
    ``out_proj.*``                        of the layer inside, quantized or float
    ==========================  ========  ==========================================================

    With a ``kdim`` or ``vdim`` of its own there are ``q_proj_weight``, ``k_proj_weight`` and ``v_proj_weight`` in place
    of the packed one, each with its scale. Everything else is as in `KernelModule`, packed weights and tracing too.

    Whatever torch's fast path does otherwise, results are those of its documented path: a query that no key is open to
    gives NaN with ``need_weights``, and attends to nothing without. Nested tensors are refused.

    Args:
        layer: the float layer; its bias is copied, its ``out_proj`` stands in both.
        specs: how each weight is stored.
        stored: its tensors, by suffix.
        input_spec: how query, key and value are quantized; dynamic.
    """

    input_spec: TensorSpec
    in_proj_bias: Tensor | None
    out_proj: nn.Module

    def __init__(
        self,
        layer: nn.MultiheadAttention,
        specs: Mapping[str, WeightSpec],
        stored: Mapping[str, Mapping[str, Tensor]],
        input_spec: TensorSpec,
    ) -> None:
        super().__init__()
        self.weight_specs = dict(specs)
        self.input_spec = input_spec
        self.embed_dim, self.kdim, self.vdim = layer.embed_dim, layer.kdim, layer.vdim
        self.num_heads, self.head_dim = layer.num_heads, layer.head_dim
        self.batch_first, self.dropout = layer.batch_first, layer.dropout
        self._qkv_same_embed_dim = layer._qkv_same_embed_dim  # nn.TransformerEncoderLayer asks for it
        for name in (_PACKED, *_SEPARATE):
            self.register_buffer(name, None)
        for name, tensors in stored.items():
            self.store(name, tensors)
        bias = layer.in_proj_bias
        copied = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.register_parameter("in_proj_bias", copied)
        self.out_proj = layer.out_proj
        self.training = layer.training
        self.use_kernels(REFERENCE_ONLY)

    @property
    def kernels_in_use(self) -> tuple[str, ...]:
        """Names of the kernels in use for the projections of query, key and value."""
        return tuple(dict.fromkeys(name for engine in self.engines.values() for name in engine.chosen))

    def use_kernels(self, kernels: tuple[NamedKernel, ...], wanted: str = "auto") -> None:
        """Choose from these kernels from now on, for query, key and value."""
        self.engines = {part: Engine(kernels, wanted) for part in _THIRDS}

    def repack(self) -> None:
        """Pack the weights of query, key and value anew at the next call."""
        self._forget_compiled()
        for engine in self.engines.values():
            engine.clear()

    def forward(  # noqa: PLR0917 - the signature of nn.MultiheadAttention
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,  # noqa: FBT001, FBT002
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,  # noqa: FBT001, FBT002
        is_causal: bool = False,  # noqa: FBT001, FBT002
    ) -> tuple[Tensor, Tensor | None]:
        """As ``nn.MultiheadAttention``: the output, dtype of the query, and the weights or None.

        Raises:
            RuntimeError: when shapes do not fit, a tensor is nested, or ``is_causal`` comes without ``attn_mask``.
            TypeError: when a mask is neither bool nor float.
        """
        if not is_traced():
            self._refuse_misfits(query, key, value)
        if is_causal and attn_mask is None:
            raise RuntimeError("is_causal is a hint about attn_mask: give that too")
        if query.dim() == _UNBATCHED and key_padding_mask is not None:
            key_padding_mask = key_padding_mask[None]
        q, k, v = map(self._heads, self._projected(query, key, value))
        dropout = self.dropout if self.training else 0.0
        if is_causal and key_padding_mask is None and not need_weights:
            return self._output(self._merged(attend(q, k, v, None, dropout=dropout, is_causal=True), query)), None
        bias = score_bias(key_padding_mask, attn_mask, (*q.shape[:3], k.shape[2]), q.dtype)
        if not need_weights:
            return self._output(self._merged(attend(q, k, v, bias, dropout=dropout, is_causal=False), query)), None
        attended, weights = attend_showing(q, k, v, bias, dropout=dropout)
        merged = self._merged(attended, query)
        closed = merged.isnan().any(dim=-1, keepdim=True)  # queries without a key: no part of the others' range
        output = self._output(merged.masked_fill(closed, 0.0)).masked_fill(closed, math.nan)
        weights = weights.mean(dim=1) if average_attn_weights else weights
        return output, weights[0] if query.dim() == _UNBATCHED else weights

    def to_float(self, made: dict[int, nn.Parameter]) -> nn.MultiheadAttention:
        """The ``nn.MultiheadAttention`` with the weights that the codes stand for."""
        bias = self.in_proj_bias
        layer = nn.MultiheadAttention(
            self.embed_dim, self.num_heads, self.dropout, bias=bias is not None, kdim=self.kdim, vdim=self.vdim,
            batch_first=self.batch_first, device="meta",
        )  # fmt: skip
        for name in self.weight_specs:
            setattr(layer, name, self.float_parameter(name, made))
        if bias is not None:
            dtype = self.weight_specs[next(iter(self.weight_specs))].dequantized_dtype
            layer.in_proj_bias = nn.Parameter(bias.detach().to(dtype, copy=True))
        layer._modules["out_proj"] = self.out_proj
        layer.training = self.training
        return layer

    def extra_repr(self) -> str:
        """The dimensions, and how the weights are stored."""
        specs = ", ".join(dict.fromkeys(map(str, self.weight_specs.values())))
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, {specs}"

    def _refuse_misfits(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        inputs = (query, key, value)
        if any(x.is_nested for x in inputs):
            raise RuntimeError(
                "quantized attention does not take nested tensors: give a padded tensor and key_padding_mask"
            )
        axis = 0 if self.batch_first else 1  # of the sequences
        fits = (
            query.dim() in {_UNBATCHED, _UNBATCHED + 1}
            and key.dim() == value.dim() == query.dim()
            and [x.shape[-1] for x in inputs] == [self.embed_dim, self.kdim, self.vdim]
            and key.shape[:-1] == value.shape[:-1]
            and (query.dim() == _UNBATCHED or query.shape[axis] == key.shape[axis])
        )
        if not fits:
            order = "(N, L, {})" if self.batch_first else "(L, N, {})"
            expected = ", ".join(order.format(size) for size in (self.embed_dim, self.kdim, self.vdim))
            shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
            raise RuntimeError(f"expected query, key and value of shapes {expected} or without N, got {shapes}")

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, each ``(..., embed_dim)``; those that are one tensor are projected at once."""
        if self._qkv_same_embed_dim and key is value:
            if query is key:
                q, k, v = self._project("qkv", query).chunk(3, dim=-1)
                return q, k, v
            k, v = self._project("kv", key).chunk(2, dim=-1)
            return self._project("q", query), k, v
        return self._project("q", query), self._project("k", key), self._project("v", value)

    def _project(self, part: str, x: Tensor) -> Tensor:
        thirds = _THIRDS[part]
        bias_rows = slice(thirds.start * self.embed_dim, thirds.stop * self.embed_dim)
        name, rows = (_PACKED, bias_rows) if self._qkv_same_embed_dim else (f"{part}_proj_weight", slice(None))
        codes, scale = self.stored(name).values()
        stored = (codes, scale, self.in_proj_bias)
        return project(x, stored, rows=rows, bias_rows=bias_rows, spec=self.input_spec, engine=self.engines[part])

    def _heads(self, x: Tensor) -> Tensor:
        """``(N, L, E)``, ``(L, N, E)`` or ``(L, E)`` as ``(N, H, L, D)``."""
        x = x.view(*x.shape[:-1], self.num_heads, self.head_dim)
        if x.dim() == _UNBATCHED + 1:
            return x.transpose(0, 1)[None]
        return x.transpose(1, 2) if self.batch_first else x.permute(1, 2, 0, 3)

    def _merged(self, attended: Tensor, query: Tensor) -> Tensor:
        """``(N, H, L, D)`` in the layout of the query."""
        if query.dim() == _UNBATCHED:
            return attended[0].transpose(0, 1).flatten(-2)
        return (attended.transpose(1, 2) if self.batch_first else attended.permute(2, 0, 1, 3)).flatten(-2)

    def _output(self, attended: Tensor) -> Tensor:
        """Through the output projection: called where it is quantized, its weight read where not, as torch does."""
        if isinstance(self.out_proj, KernelModule):
            projected: Tensor = self.out_proj(attended)
            return projected
        weight, bias = cast("Tensor", self.out_proj.weight), cast("Tensor | None", self.out_proj.bias)
        return functional.linear(attended, weight, bias)

    def _fixed(self) -> list[Tensor]:
        return super()._fixed() if self.in_proj_bias is None else [*super()._fixed(), self.in_proj_bias]
