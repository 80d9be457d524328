"""What a run gives back."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
from torch import nn

from mono_quant.component import Component, Wanted
from mono_quant.errors import ConfigurationError
from mono_quant.info import QuantizationInfo
from mono_quant.io.files import write, write_program
from mono_quant.io.statistics import LayerStatistics
from mono_quant.io.validation import ValidationResult
from mono_quant.layer_report import LayerReport, layer_table
from mono_quant.plugin_api.format import Format, ProgramFormat
from mono_quant.plugin_api.observer import Observer
from mono_quant.plugin_api.plan import Plan
from mono_quant.plugin_api.source import Batch
from mono_quant.report import make_report
from mono_quant.report_file import write_report
from mono_quant.runtimes import CompiledModel
from mono_quant.targets.record import Found

__all__ = ["QuantizationInfo", "QuantizationResult"]


@attrs.frozen(kw_only=True, eq=False)
class QuantizationResult:
    """A quantized model and what is known of it.

    Args:
        model: the quantized model.
        info: the figures of the run.
        validation: what the validators found; None when none were asked for.
        plan: the coverage ledger, as it was carried out.
        example: a copy of the first calibration batch; None without data.
        format_for: gives the format for a file name, or of a name; formats are plugins.
        compile_by: compiles a model on an example, by a runtime; runtimes are plugins.
        batch_of: makes a batch of an item as calibration data has them.
        observed: layer → the observer of its input, and how it was asked for.
        found: how the quantizer's target was reached; None where it had none.
        layers: each quantized layer in figures, in the order of the model.
    """

    model: nn.Module
    info: QuantizationInfo
    validation: ValidationResult | None
    plan: Plan
    example: Batch | None = attrs.field(default=None, repr=False)
    format_for: Callable[[str | Path, Wanted | None], Format] = attrs.field(repr=False)
    compile_by: Callable[..., CompiledModel] = attrs.field(repr=False)
    batch_of: Callable[[Any], Batch] = attrs.field(repr=False)
    observed: Mapping[str, tuple[Observer, Component]] = attrs.field(factory=dict, repr=False)
    found: Found | None = None
    layers: tuple[LayerReport, ...] = attrs.field(default=(), repr=False)

    def save(
        self,
        path: str | Path,
        format: Wanted | None = None,  # noqa: A002 - the word that users know
        *,
        example: Any | None = None,  # noqa: ANN401 - a batch
    ) -> None:
        """Write the quantized model with its manifest.

        Args:
            path: its suffix chooses the format.
            format: name of a format, or a mapping of it and options, in place of that.
            example: a batch for a format of programs, as ``.pt2`` is, which runs the model on it; None for the first
                calibration batch. Other formats need none.

        Raises:
            ArtifactError: when it cannot be written.
            CalibrationError: when the example is no batch.
            ConfigurationError: when a program needs an example, and none is given or known.
        """
        chosen = self.format_for(path, format)
        if not isinstance(chosen, ProgramFormat):
            write(chosen, self.model, path)
            return
        batch = self.example if example is None else self.batch_of(example)
        if batch is None:
            raise ConfigurationError(
                f"{path} would be a program, which is made by running the model on a batch, and it was quantized "
                "without data: give example=..."
            )
        write_program(chosen, self.model, batch, path)

    def compile(
        self,
        runtime: str | Mapping[str, Any] | None = None,
        example: Any | None = None,  # noqa: ANN401 - a batch
    ) -> CompiledModel:
        """The quantized model as a runtime runs it; see `mono_quant.Quantizer.compile`.

        Args:
            runtime: a name, or a mapping of it and options; None for the configuration's, ``"auto"`` for the fastest.
            example: a batch of the shape to be fast at; None for the first calibration batch.

        Raises:
            CompilationError: when it cannot run the model, or gives something else than the reference kernels.
            ConfigurationError: when no example is given and none is known.
        """
        example = self.example if example is None else example
        if example is None:
            raise ConfigurationError(
                "compiling needs a batch to run the model on, and it was quantized without data: give example=..."
            )
        return self.compile_by(self.model, example, runtime=runtime)

    @property
    def statistics(self) -> dict[str, LayerStatistics]:
        """What the observers have seen of the inputs of layers, by layer; `mono_quant.io.save_statistics` writes it.

        ``quantize(model, statistics=...)`` finds ranges in it without data, also for other codes. Observers that keep
        no state are left out, and so are layers whose inputs an algorithm changed.
        """
        seen = {name: pair for name, pair in self.observed.items() if pair[0].state()}
        return {name: LayerStatistics.of(observer, wanted) for name, (observer, wanted) in seen.items()}

    def report(self) -> str:
        """At most ten lines for people: what was quantized, what not and why, how accurate, how large, how fast."""
        return make_report(self.plan, self.info, self.validation, self.layers)

    def layer_table(self) -> str:
        """A line for each quantized layer: how accurate its weights and output, how its input lies in its range."""
        return layer_table(self.layers)

    def save_report(self, path: str | Path) -> None:
        """Write all figures as JSON; ``monoquant compare`` compares two of these files.

        Raises:
            ArtifactError: when it cannot be written.
        """
        write_report(path, self.info, self.validation, self.layers, self.found)

    __str__ = report
