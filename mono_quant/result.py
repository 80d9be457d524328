"""What a run gives back."""

from collections.abc import Callable
from pathlib import Path

import attrs
from torch import nn

from mono_quant.info import QuantizationInfo
from mono_quant.io.files import write
from mono_quant.io.validation import ValidationResult
from mono_quant.plugin_api.format import Format
from mono_quant.plugin_api.plan import Plan
from mono_quant.report import make_report

__all__ = ["QuantizationInfo", "QuantizationResult"]


@attrs.frozen(kw_only=True, eq=False)
class QuantizationResult:
    """A quantized model and what is known of it.

    Args:
        model: the quantized model.
        info: the figures of the run.
        validation: what the validators found; None when none were asked for.
        plan: the coverage ledger, as it was carried out.
        format_for: gives the format for a file name; formats are plugins.
    """

    model: nn.Module
    info: QuantizationInfo
    validation: ValidationResult | None
    plan: Plan
    format_for: Callable[[str | Path], Format] = attrs.field(repr=False)

    def save(self, path: str | Path) -> None:
        """Write the quantized model with its manifest; the suffix chooses the format.

        Raises:
            ArtifactError: when it cannot be written.
        """
        write(self.format_for(path), self.model, path)

    def report(self) -> str:
        """At most ten lines for people: what was quantized, what not and why, how accurate, how large, how fast."""
        return make_report(self.plan, self.info, self.validation)

    __str__ = report
