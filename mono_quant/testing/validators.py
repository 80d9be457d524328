"""What every validator promises."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import nn

from mono_quant.core.tensors import same_bits
from mono_quant.errors import ArtifactError
from mono_quant.io.validation import ValidationResult
from mono_quant.plugin_api import ValidationContext, ValidationFinding, Validator, ValidatorSpec, hookimpl
from mono_quant.quantizer import Quantizer
from mono_quant.testing.models import batches, small_net

__all__ = ["Change", "ValidatorSuite"]

Change = Callable[[ValidationContext], "ValidationContext | None"]
"""Makes a healthy context ill: changes its quantized model, or gives another context."""

_STATUSES = ("passed", "failed", "skipped")
_UNKNOWN = ("plan", "batch", "float_layer", "files")


class ValidatorSuite(ABC):
    """Derive a test class from it, write `make` and `defects`.

    A defect is a function that makes a healthy context ill. It either changes ``context.quantized`` or returns another
    context, and the validator must find it.
    """

    @abstractmethod
    def make(self) -> Validator:
        """A new validator."""

    @abstractmethod
    def defects(self) -> Mapping[str, Change]:
        """What it must find, by a name for each; empty only for a validator that measures and never fails."""

    def model(self) -> nn.Module:
        """The float model of the healthy context."""
        return small_net()

    def data(self) -> Sequence[Any]:
        """Its calibration batches."""
        return batches()

    def test_it_is_a_validator(self) -> None:
        assert isinstance(self.make(), Validator), "make() must give a mono_quant.plugin_api.Validator"

    def test_a_healthy_model_passes(self) -> None:
        findings = self._validate(self._healthy())
        assert findings, "a validator must report at least one finding"
        failed = [finding for finding in findings if finding.status == "failed"]
        assert not failed, f"a healthy model failed: {failed}"

    def test_every_planted_defect_is_found(self) -> None:
        for name, change in self.defects().items():
            context = self._healthy()
            findings = self._validate(change(context) or context)
            failed = [finding for finding in findings if finding.status == "failed"]
            assert failed, f"the defect {name!r} was not found"
            assert all(finding.message for finding in failed), f"the finding of {name!r} has no message: say what to do"

    def test_findings_are_named_and_do_not_change(self) -> None:
        context = self._healthy()
        one, other = self._validate(context), self._validate(context)
        names = [finding.name for finding in one]
        assert len(names) == len(set(names)), f"two findings have one name: {names}"
        assert all(map(_same, one, other)) and len(one) == len(other), "a second look found something else"

    def test_nothing_is_changed(self) -> None:
        context = self._healthy()
        before = [_snapshot(model) for model in (context.original, context.quantized)]
        self._validate(context)
        after = [_snapshot(model) for model in (context.original, context.quantized)]
        for (tensors, modes), (tensors_after, modes_after) in zip(before, after, strict=True):
            same = tensors.keys() == tensors_after.keys()
            same = same and all(same_bits(tensor, tensors_after[name]) for name, tensor in tensors.items())
            assert same, "validate() changed the tensors of a model"
            assert modes == modes_after, "validate() left modules in another mode"

    def test_random_numbers_go_on_as_without_it(self) -> None:
        context = self._healthy()
        torch.manual_seed(3)
        expected = torch.rand(4)
        torch.manual_seed(3)
        self._validate(context)
        assert torch.equal(torch.rand(4), expected), "validate() draws from the user's random numbers"

    @pytest.mark.parametrize("unknown", _UNKNOWN)
    def test_what_is_not_known_is_skipped_and_not_guessed(self, unknown: str) -> None:
        changes: dict[str, dict[str, Any]] = {
            "plan": {"plan": None},
            "batch": {"batch": None},
            "float_layer": {"float_layer": lambda name: None},  # noqa: ARG005 - called with a layer's name
            "files": {"save": _refuse, "load": _refuse},
        }
        findings = self._validate(attrs.evolve(self._healthy(), **changes[unknown]))
        assert findings, "with less to look at there is no finding at all: report it as skipped"
        failed = [finding for finding in findings if finding.status == "failed"]
        assert not failed or unknown == "files", f"without {unknown} a healthy model fails: {failed}"

    def test_a_run_reports_its_findings(self) -> None:
        result = self._quantized()
        assert isinstance(result.validation, ValidationResult)
        reported = {finding.name for finding in result.validation.findings}
        assert {finding.name for finding in self._validate(self._healthy())} <= reported

    def _validate(self, context: ValidationContext) -> Sequence[ValidationFinding]:
        findings = self.make().validate(context)
        assert isinstance(findings, Sequence), "validate() must give a sequence of findings"
        for finding in findings:
            assert isinstance(finding, ValidationFinding), f"validate() gave a {type(finding).__name__}"
            assert finding.status in _STATUSES, (
                f"{finding.name}: a status is one of {_STATUSES}, not {finding.status!r}"
            )
            assert finding.status == "passed" or finding.message, f"{finding.name} is {finding.status}: say why"
            assert finding.value is None or isinstance(finding.value, int | float), f"{finding.name}: not a number"
        return findings

    def _healthy(self) -> ValidationContext:
        seen: list[ValidationContext] = []

        class Remembers(Validator):
            def validate(self, context: ValidationContext) -> Sequence[ValidationFinding]:
                seen.append(context)
                return []

        self._quantized(Remembers)
        return seen[0]

    def _quantized(self, factory: Callable[[], Validator] | None = None) -> Any:  # noqa: ANN401
        return Quantizer(
            validators=["the-validator"], plugins=[_Plugin(factory or self.make)], autoload=False,
            show_progress=False, on_failure="ignore",
        ).quantize(self.model(), self.data())  # fmt: skip


class _Plugin:
    def __init__(self, factory: Callable[[], Validator]) -> None:
        self._factory = factory

    @hookimpl
    def mono_quant_validators(self) -> list[ValidatorSpec]:
        return [ValidatorSpec(name="the-validator", summary="the validator under test", factory=self._factory)]


def _refuse(path: Path) -> Any:  # noqa: ANN401
    message = f"{path}: in this test nothing can be saved or loaded"
    raise ArtifactError(message)


def _snapshot(model: nn.Module) -> tuple[dict[str, torch.Tensor], list[bool]]:
    tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    return tensors, [module.training for module in model.modules()]


def _same(one: ValidationFinding, other: ValidationFinding) -> bool:
    """Equal as texts, in which a figure that is not a number equals itself."""
    return str(one) == str(other)
