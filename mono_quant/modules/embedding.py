"""Quantized look-ups: only the rows that are asked for are made float."""

import torch
from torch import Tensor
from torch.nn import functional

from mono_quant.core.encoding import decode_channels
from mono_quant.modules.base import is_traced
from mono_quant.modules.recording import dequantize_rows, is_recording
from mono_quant.modules.weight_only import WeightOnly

__all__ = ["BagOfRows", "Rows"]


class Rows(WeightOnly):
    """What is mixed into ``nn.Embedding``: ``(*) → (*, embedding_dim)``."""

    @property
    def kernels_in_use(self) -> tuple[str, ...]:
        """Rows are gathered, then made float."""
        return ("gather",)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of nn.Embedding's parameter
        """The rows of these indices."""
        return self.rows(input.reshape(-1)).reshape(*input.shape, self.weight_specs["weight"].shape[1])

    def rows(self, indices: Tensor) -> Tensor:
        """Int32 or int64 ``(n,)`` → float ``(n, embedding_dim)``.

        Raises:
            IndexError: when an index is not in the table.
        """
        spec, stored = self.weight_specs["weight"], self.stored("weight")
        rows = dequantize_rows(stored, spec, indices) if is_recording() else decode_channels(stored, spec, indices)
        return rows.to(spec.dequantized_dtype)


class BagOfRows(Rows):
    """What is mixed into ``nn.EmbeddingBag``: the sums, means or maxima of bags of rows."""

    mode: str
    include_last_offset: bool
    padding_idx: int | None

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:  # noqa: A002
        """As ``nn.EmbeddingBag``, over a table of the distinct rows that are asked for; traced, over all rows."""
        table, indices, padding = (
            (self.read("weight"), input, self.padding_idx) if is_traced() else self._distinct(input)
        )
        return functional.embedding_bag(
            indices, table, offsets, mode=self.mode, per_sample_weights=per_sample_weights,
            include_last_offset=self.include_last_offset, padding_idx=padding,
        )  # fmt: skip

    def _distinct(self, indices: Tensor) -> tuple[Tensor, Tensor, int | None]:
        """The distinct rows, the indices into them, and the index of the padding among them."""
        distinct, renumbered = torch.unique(indices, return_inverse=True)
        found = (distinct == self.padding_idx).nonzero() if self.padding_idx is not None else distinct[:0]
        return self.rows(distinct), renumbered, int(found) if found.numel() else None
