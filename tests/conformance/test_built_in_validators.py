"""The same for validators: each finds the defects that it is there for."""

from collections.abc import Callable, Mapping
from pathlib import Path

import attrs
import torch
from torch import nn

from mono_quant.errors import ArtifactError
from mono_quant.io.checks import LoadRunValidator, SizeValidator, SqnrValidator, WeightRangeValidator
from mono_quant.plugin_api import ValidationContext
from mono_quant.testing import ValidatorSuite
from mono_quant.testing.validators import Change


def write(tensor: str, value: float) -> Change:
    """A defect: a number in one tensor of the quantized model."""

    def change(context: ValidationContext) -> None:
        with torch.no_grad():
            context.quantized.state_dict(keep_vars=True)[tensor].view(-1)[0] = value

    return change


class TestSqnr(ValidatorSuite):
    def make(self) -> SqnrValidator:
        return SqnrValidator(minimum=20)

    def defects(self) -> Mapping[str, Change]:
        return {
            "an output that is not finite": write("head.bias", torch.nan),
            "a scale a hundred times too large": write("head.weight_scale", 100.0),
            "the wrong zero point": write("head.input_zero_point", 250),
            "an output of another structure": lambda context: attrs.evolve(
                context, quantized=_Other(context.quantized)
            ),
        }


class TestSize(ValidatorSuite):
    def make(self) -> SizeValidator:
        return SizeValidator()

    def defects(self) -> Mapping[str, Change]:
        return {}  # it measures, and never fails


class TestWeightRange(ValidatorSuite):
    def make(self) -> WeightRangeValidator:
        return WeightRangeValidator()

    def defects(self) -> Mapping[str, Change]:
        return {
            "a code that symmetric weights do not have": write("mix.weight", -128),
            "a scale of zero": write("mix.weight_scale", 0.0),
            "a negative scale": write("mix.weight_scale", -0.1),
            "a scale that is not a number": write("mix.weight_scale", torch.nan),
            "an infinite input scale": write("mix.input_scale", torch.inf),
            "a zero point outside of uint8": write("mix.input_zero_point", 256),
            "a bias that is not finite": write("head.bias", -torch.inf),
        }


class TestLoadRun(ValidatorSuite):
    def make(self) -> LoadRunValidator:
        return LoadRunValidator()

    def defects(self) -> Mapping[str, Change]:
        return {
            "a model that cannot be saved": lambda context: attrs.evolve(context, save=refuse),
            "a file that cannot be loaded": lambda context: attrs.evolve(context, load=refuse),
            "a loaded tensor with another bit": lambda context: attrs.evolve(
                context, load=changed(context, "head.bias")
            ),
            "a loaded tensor that is missing": lambda context: attrs.evolve(context, load=without_bias(context)),
            "a loaded model that computes something else": lambda context: attrs.evolve(
                context, load=with_a_hook(context)
            ),
        }


def refuse(path: Path) -> nn.Module:
    message = f"{path} is full"
    raise ArtifactError(message)


def changed(context: ValidationContext, name: str) -> Callable[[Path], nn.Module]:
    def load(path: Path) -> nn.Module:
        model = context.load(path)
        state = {key: value.clone() for key, value in model.state_dict().items()}
        state[name].view(-1)[0] += 1
        model.load_state_dict(state, assign=True)
        return model

    return load


def without_bias(context: ValidationContext) -> Callable[[Path], nn.Module]:
    def load(path: Path) -> nn.Module:
        model = context.load(path)
        model.get_submodule("head").bias = None
        return model

    return load


def with_a_hook(context: ValidationContext) -> Callable[[Path], nn.Module]:
    def load(path: Path) -> nn.Module:
        model = context.load(path)
        model.register_forward_hook(lambda _module, _args, output: output + 1)
        return model

    return load


class _Other(nn.Module):
    """Gives two tensors where the float model gives one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.model(x), x
