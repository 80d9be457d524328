"""Validators with one bug each; the right one looks for a bias that is not finite."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mono_quant.plugin_api import ValidationContext, ValidationFinding, Validator
from mono_quant.testing import ValidatorSuite
from mono_quant.testing.validators import Change

FINDS: dict[type[ValidatorSuite], str] = {}


def break_the_head(context: ValidationContext) -> None:
    with torch.no_grad():
        context.quantized.get_parameter("head.bias").fill_(torch.nan)


class Right(Validator):
    def validate(self, context: ValidationContext) -> Sequence[ValidationFinding]:
        is_finite = all(bool(torch.isfinite(p).all()) for p in context.quantized.parameters())
        return [
            ValidationFinding(
                name="finite", status="passed" if is_finite else "failed", message="" if is_finite else "look at biases"
            )
        ]


def planted(test: str) -> Any:
    def wrap(validator: type[Validator]) -> type[Validator]:
        def defects(self: ValidatorSuite) -> Mapping[str, Change]:
            del self
            return {"a bias that is not finite": break_the_head}

        members = {
            "defects": defects,
            "make": lambda self: validator(),
            "__module__": __name__,
        }
        suite = type(f"Test{validator.__name__}", (ValidatorSuite,), members)
        globals()[suite.__name__] = suite
        FINDS[suite] = test
        return validator

    return wrap


@planted("test_every_planted_defect_is_found")
class PassesEverything(Right):
    def validate(self, context: ValidationContext) -> Sequence[ValidationFinding]:
        return [ValidationFinding(name="finite", status="passed")]


@planted("test_a_healthy_model_passes")
class FailsEverything(Right):
    def validate(self, context: ValidationContext) -> Sequence[ValidationFinding]:
        return [ValidationFinding(name="finite", status="failed", message="as always")]


@planted("test_what_is_not_known_is_skipped_and_not_guessed")
class NeedsABatch(Right):
    def validate(self, context: ValidationContext) -> Sequence[ValidationFinding]:
        context.run(context.quantized, context.batch)
        return super().validate(context)


@planted("test_nothing_is_changed")
class LeavesTrainingMode(Right):
    def validate(self, context: ValidationContext) -> Sequence[ValidationFinding]:
        context.quantized.train()
        return super().validate(context)


@planted("test_nothing_is_changed")
class Repairs(Right):
    def validate(self, context: ValidationContext) -> Sequence[ValidationFinding]:
        found = super().validate(context)
        with torch.no_grad():
            context.quantized.get_parameter("head.bias").add_(1)
        return found


@planted("test_findings_are_named_and_do_not_change")
class NamesThemAlike(Right):
    def validate(self, context: ValidationContext) -> Sequence[ValidationFinding]:
        return [*super().validate(context), *super().validate(context)]


@planted("test_every_planted_defect_is_found")
class SaysNothing(Right):
    def validate(self, context: ValidationContext) -> Sequence[ValidationFinding]:
        return [ValidationFinding(name=f.name, status=f.status) for f in super().validate(context)]


@planted("test_random_numbers_go_on_as_without_it")
class DrawsNumbers(Right):
    def validate(self, context: ValidationContext) -> Sequence[ValidationFinding]:
        torch.randn(3)
        return super().validate(context)


@planted("test_a_healthy_model_passes")
class GivesAMapping(Right):
    def validate(self, context: ValidationContext) -> Any:
        return {finding.name: finding for finding in super().validate(context)}


@planted("test_findings_are_named_and_do_not_change")
class CountsItsCalls(Right):
    calls = 0

    def validate(self, context: ValidationContext) -> Sequence[ValidationFinding]:
        CountsItsCalls.calls += 1
        return [*super().validate(context), ValidationFinding(name="calls", status="passed", value=self.calls)]


planted("")(Right)
