"""The figures of a run."""

from collections.abc import Mapping

import attrs

__all__ = ["QuantizationInfo"]


@attrs.frozen(kw_only=True)
class QuantizationInfo:
    """The figures of a run.

    Args:
        selected_layers: the quantized layers, in the order of the model.
        skipped_layers: the layers left in float, name → reason.
        folded_layers: the layers whose work another one does now, name → that one.
        calibration_samples_used: how many batches were drawn.
        dtype: type of the weight codes.
        symmetric: whether the weights are quantized symmetrically.
        sqnr_db: SQNR of the model's output on a calibration batch; None when not validated.
        original_size_mb: MB (2^20 bytes) of the float model; None when not validated.
        quantized_size_mb: the same of the quantized one.
        compression_ratio: the first over the second.
        kernels: quantized layer → the kernels in use, by the size of the inputs seen so far.
        fused_layers: those whose output stayed codes, or got its activation, in the kernel.
        original_latency_ms: median time of the float model on a calibration batch.
        quantized_latency_ms: the same of the quantized one.
        warnings: what the owner of the model should know.
        versions: of mono_quant, torch and the plugins used, name → version.
    """

    selected_layers: tuple[str, ...]
    skipped_layers: Mapping[str, str]
    folded_layers: Mapping[str, str]
    calibration_samples_used: int
    dtype: str
    symmetric: bool
    sqnr_db: float | None = None
    original_size_mb: float | None = None
    quantized_size_mb: float | None = None
    compression_ratio: float | None = None
    kernels: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    fused_layers: tuple[str, ...] = ()
    original_latency_ms: float | None = None
    quantized_latency_ms: float | None = None
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def speedup(self) -> float | None:
        """How many times faster than float, on a calibration batch; None when not measured."""
        if not self.original_latency_ms or not self.quantized_latency_ms:
            return None
        return self.original_latency_ms / self.quantized_latency_ms
