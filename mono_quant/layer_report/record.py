"""The record of one layer."""

from typing import Any

import attrs

__all__ = ["LayerReport"]


@attrs.frozen(kw_only=True)
class LayerReport:
    """One quantized layer in figures. Those that were not measured are None.

    Outputs are compared layer by layer: the quantized layer and the float layer, after rewrites, are given the same
    input, the one that the float model gives it on the first calibration batch. So a figure is the layer's own, and not
    what the layers before it have lost.

    Args:
        name: qualified name.
        layer_type: class name of the float layer.
        scheme: registry name of the scheme.
        weight: how its weights are stored, as text.
        input: how its input is quantized, as text; None when it stays float.
        observer: how the range of its input was found: a name, or a mapping of it and options; None where none is.
        kernels: names of those in use.
        float_bytes: of its parameters in float.
        quantized_bytes: of its tensors now.
        weight_sqnr_db: SQNR of its weights; None when the check ``sqnr`` did not run.
        output_sqnr_db: SQNR of its output.
        saturation_percent: share of the input's values that lie outside of the codes' range, and are clipped.
        range_used_percent: share of that range in which all but 0.1 % of the values lie.
        input_channels: how many channels the input has.
        outlier_channels: how many of them have a largest magnitude over 6 times the median channel's.
        shift_percent: share of the output's noise that is a constant of each channel, which a bias can take away; None
            where there is a single row.
        hint: what could make it better, as one sentence; empty when nothing needs to.
    """

    name: str
    layer_type: str
    scheme: str
    weight: str
    input: str | None
    observer: str | dict[str, Any] | None
    kernels: tuple[str, ...]
    float_bytes: int
    quantized_bytes: int
    weight_sqnr_db: float | None = None
    output_sqnr_db: float | None = None
    saturation_percent: float | None = None
    range_used_percent: float | None = None
    input_channels: int | None = None
    outlier_channels: int | None = None
    shift_percent: float | None = None
    hint: str = ""
