"""What users pass as a model, and as a file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from mono_quant.core.surgery import copy_with
from mono_quant.errors import ConfigurationError
from mono_quant.modules import QuantizedModule

__all__ = ["_built", "_detect_input_format", "_prepare_model", "_validate_model", "_validate_weights"]


def _detect_input_format(model: object) -> Literal["module", "state_dict", "path"]:
    """What kind of thing a model was given as.

    Raises:
        ConfigurationError: when it is none that is understood.
    """
    if isinstance(model, nn.Module):
        return "module"
    if isinstance(model, Mapping) and (why_not := _no_state_dict(model)):
        raise ConfigurationError(f"the {type(model).__name__} given is no state_dict of tensors alone: {why_not}")
    if isinstance(model, Mapping):
        return "state_dict"
    if isinstance(model, str | Path):
        return "path"
    raise ConfigurationError(f"a model is an nn.Module, a state_dict or the path of a file, got {type(model).__name__}")


def _no_state_dict(model: Mapping[object, object]) -> str:
    """The first entry that is no tensor, and what to do; empty when there is none."""
    has_tensors = any(isinstance(value, Tensor) for value in model.values())
    for name, value in model.items():
        if not isinstance(value, Tensor):
            is_around_one = isinstance(value, Mapping) and not has_tensors
            meant = f"the state_dict may be its {name!r} alone" if is_around_one else "take it out"
            return f"{name!r} is a {type(value).__name__}; {meant}"
    return ""


def _validate_model(model: object) -> None:
    """Refuse what is not a float module with parameters.

    Raises:
        ConfigurationError: saying what it is.
    """
    if not isinstance(model, nn.Module):
        raise ConfigurationError(f"quantization needs an nn.Module, got a {type(model).__name__}")
    compiled = [name for name, module in model.named_modules() if "_orig_mod" in module._modules]  # noqa: SLF001
    if compiled:
        which = f"layer {compiled[0]!r} of this {type(model).__name__}" if compiled[0] else "the model"
        raise ConfigurationError(
            f"{which} is the result of torch.compile: give the module that was compiled (its ._orig_mod), and compile "
            "what comes out"
        )
    done = [name for name, module in model.named_modules() if isinstance(module, QuantizedModule)]
    if done:
        raise ConfigurationError(f"layers {done[:3]} are quantized already: quantize the float model in one run")
    if next(model.parameters(), None) is None:
        raise ConfigurationError(f"{type(model).__name__} has no parameters: there is nothing to quantize")


def _validate_weights(model: nn.Module) -> None:
    """Refuse a model without numbers in it.

    Raises:
        ConfigurationError: naming the first layer.
    """
    for name, module in model.named_modules():
        for key, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            if tensor.is_meta:
                layer = f"layer {name!r}" if name else f"this {type(model).__name__}"
                raise ConfigurationError(
                    f"the {key} of {layer} is on the device 'meta', where tensors have no numbers: load the model's "
                    "weights before quantizing, or quantize their file with quantize_checkpoint"
                )


def _built(model: nn.Module | Callable[[], nn.Module]) -> nn.Module:
    """The model, or what the function gives that was passed for it.

    Raises:
        ConfigurationError: when the function fails, or gives no module.
    """
    if isinstance(model, nn.Module):
        return model
    name = getattr(model, "__qualname__", repr(model))
    try:
        built = model()
    except Exception as error:  # the user's function can raise anything
        raise ConfigurationError(
            f"model={name} is called without arguments to build the model, and failed with {type(error).__name__}: "
            f"{error}; give an instance, or a function such as lambda: {name}(...)"
        ) from error
    if not isinstance(built, nn.Module):
        raise ConfigurationError(f"model={name} is called to build the model, and gave a {type(built).__name__}")
    return built


def _prepare_model(model: nn.Module) -> nn.Module:
    """A copy of a validated model, in eval mode; the model itself is not changed."""
    _validate_model(model)
    return copy_with(model, {}).eval()
