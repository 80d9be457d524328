"""Checking a saved file against its float model, at any time after the run that made it."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs
from torch import nn

from mono_quant._plugins.manager import PluginManager
from mono_quant.component import Component, Wanted
from mono_quant.core.plan import connected
from mono_quant.errors import CalibrationError
from mono_quant.io.checks import run_once
from mono_quant.io.files import write
from mono_quant.io.validation import ValidationResult, run_validators
from mono_quant.plugin_api import Batch, ValidationContext, ValidationFinding
from mono_quant.quantizer import Quantizer
from mono_quant.saved import manifest_of, read_artifact

__all__ = ["first_batch", "validate_file"]


def validate_file(
    path: str | Path,
    model: nn.Module,
    data: Iterable[Any] | None = None,
    *,
    validators: Iterable[Wanted] | None = None,
    plugins: Iterable[object] = (),
) -> ValidationResult:
    """Load a quantized file and run validators on it; a failed check is in the result, not an error.

    When the SQNR of the weights or of the output is that of numbers that have nothing to do with each other, one more
    finding, ``same-model``, asks whether the model has the weights that the file was made from.

    Args:
        path: the file.
        model: the float model that it was made from, with its weights.
        data: calibration data, of which the first batch is drawn; without it outputs are not compared.
        validators: which checks to run; None for those of the recipe in the file that come with mono_quant or with
            ``plugins``. Those of other distributions are left out, as ``"skipped"``: a file is not to choose what else
            runs here, and with which options.
        plugins: as in `Quantizer`.

    Raises:
        ArtifactError: when the file cannot be read, or does not fit the model.
        CalibrationError: when the data is empty, or the model does not run on it.
    """
    plugins = tuple(plugins)
    manifest = manifest_of(read_artifact(path, plugins), path)
    left_out: list[ValidationFinding] = []
    if validators is None:
        validators, left_out = _trusted(manifest.config.validators, plugins)
    quantizer = Quantizer.from_config(attrs.evolve(manifest.config, validators=tuple(validators)), plugins=plugins)
    quantized = quantizer.load(path, model)
    components = quantizer.components
    modules = dict(model.named_modules(remove_duplicate=False))

    def float_layer(name: str) -> nn.Module | None:
        changed: dict[str, nn.Module] = {}
        for rewrite in connected(manifest.rewrites, name):
            algorithm = components.algorithm(rewrite.algorithm)
            if algorithm.changes_inputs:  # by numbers that were found from data, and are not in the file
                return None
            changed.update(algorithm.apply(rewrite, {**modules, **changed}))
        return changed.get(name, modules.get(name))

    context = ValidationContext(
        original=model,
        quantized=quantized,
        plan=None,
        batch=None if data is None else first_batch(quantizer, data),
        run=run_once,
        float_layer=float_layer,
        save=lambda copy: write(components.format_for(copy), quantized, copy),
        load=lambda copy: quantizer.load(copy, model),
    )
    findings = run_validators(components.validators, context).findings
    return ValidationResult.of([*findings, *_strangers(findings), *left_out])


def _trusted(named: Iterable[Component], plugins: Iterable[object]) -> tuple[list[Component], list[ValidationFinding]]:
    """Of the validators that a file names, those that may run unasked, and a finding for each other one."""
    registry = PluginManager.with_plugins(plugins).validators
    taken: list[Component] = []
    left_out: list[ValidationFinding] = []
    for one in named:
        provider = registry.get(one.name).provider
        if provider.is_builtin or provider.is_explicit:
            taken.append(one)
        else:
            message = (
                f"the file asks for it, and it comes from {provider}: name it yourself, as validators=[...], to run it"
            )
            left_out.append(ValidationFinding(name=one.name, status="skipped", message=message))
    return taken, left_out


def _strangers(findings: Iterable[ValidationFinding]) -> Iterator[ValidationFinding]:
    """A failed finding where the noise is more than the signal.

    The weights of a file are never that far from those that they were made from: a weight that is rounded to the
    nearest code is as near as zero or nearer. Of numbers x̂ that have nothing to do with x, the noise is Σ x² + Σ x̂².
    """
    figures = {finding.name: finding.value for finding in findings}
    low = [
        f"{name} is {value:.1f} dB"
        for name in ("weight-sqnr", "output-sqnr")
        if (value := figures.get(name)) is not None and value < 0
    ]
    if low:
        message = (
            f"{' and '.join(low)}, as of numbers that have nothing to do with the float model's: are these the weights "
            "that the file was made from? Give those, with --weights or in the model"
        )
        yield ValidationFinding(name="same-model", status="failed", message=message)


def first_batch(quantizer: Quantizer, data: Iterable[Any]) -> Batch:
    """The first batch of some data, read as a quantizer reads it.

    Raises:
        CalibrationError: when there is none, or no source reads the data.
    """
    for batch in quantizer.components.source_for(data).batches(data):
        return batch
    raise CalibrationError("the data is empty: give at least one batch that the model can run on")
