"""What became of a folder."""

from pathlib import Path

import attrs

from mono_quant._size import size_text
from mono_quant.plugin_api import Keep, Plan

__all__ = ["QuantizedFolder"]

_MB = 2**20


@attrs.frozen(kw_only=True)
class QuantizedFolder:
    """A quantized checkpoint on disk.

    Args:
        path: the folder.
        plan: the ledger: each layer with quantized weights, each tensor that stays as it is, and why.
        original_size_mb: MB (2^20 bytes) of all tensors before.
        quantized_size_mb: the same after.
        files: the files with the weights, by their plain names.
        copied: other files, relative to the folder.
        left_out: weights beside those that were quantized, and links to folders, which were not copied.
        resumed: which part of the work, 0 to 1, an earlier run had done.
    """

    path: Path
    plan: Plan
    original_size_mb: float
    quantized_size_mb: float
    files: tuple[str, ...]
    copied: tuple[str, ...]
    left_out: tuple[str, ...]
    resumed: float

    @property
    def compression_ratio(self) -> float:
        """How many times smaller the tensors are."""
        return self.original_size_mb / self.quantized_size_mb

    def report(self) -> str:
        """A few lines for people."""
        kept = [entry for entry in self.plan.entries if isinstance(entry.decision, Keep)]
        layers = self.plan.layers.values()
        lines = [
            f"quantized  {sum(len(layer.weights) for layer in layers)} tensors of {len(layers)} layers",
            f"kept       {len(kept)} tensors, {size_text(sum(entry.parameter_bytes for entry in kept) / _MB)}",
            (
                f"size       {size_text(self.original_size_mb)} -> {size_text(self.quantized_size_mb)}, "
                f"{self.compression_ratio:.2f} times smaller"
            ),
        ]
        if self.copied:
            lines.append(f"copied     {', '.join(self.copied)}")
        if self.left_out:
            lines.append(f"left out   {', '.join(self.left_out)}: not copied: other weights, links to folders")
        if self.resumed:
            lines.append(f"resumed    {self.resumed:.0%} was done by an earlier run")
        return "\n".join(lines)

    __str__ = report
