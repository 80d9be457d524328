"""Modules whose output can be multiplied channel by channel by multiplying their parameters, as that of a norm."""

import copy

import torch
from torch import Tensor, nn

from mono_quant.calibration.runner import evaluating

__all__ = ["SomeRows", "may_scale", "scaled"]

_ROWS = 16
_NAMES = {"weight", "bias"}


class SomeRows:
    """A part of what a module was given: what a claim about its function is tried on."""

    def __init__(self) -> None:
        self._x: Tensor | None = None

    def __call__(self, x: Tensor) -> None:
        """Keep the beginning of the first input ``(..., K)`` that is not empty, with all its axes."""
        if self._x is None and x.numel() and x.ndim:
            self._x = x.detach()[(slice(_ROWS),) * (x.ndim - 1)].clone()

    def prove(self, module: nn.Module, factor: Tensor) -> bool:
        """Whether `scaled` gives the module's output times ``factor``, ``(K,)``, on this, to rounding.

        And on its negative: the output of ``nn.PReLU`` scales with its weight where no input is positive.
        """
        x = self._x
        if x is None or {factor.shape} != {x.shape[-1:], *(parameter.shape for parameter in module.parameters())}:
            return False
        try:
            plain = copy.deepcopy(module)  # which may count its calls
            multiplied = scaled(plain, factor)
            with evaluating(plain, multiplied):
                return all(_is_multiplied(plain(given), multiplied(given), factor, x.shape) for given in (x, -x))
        except Exception:  # noqa: BLE001 - a module that does not run on a part of its input alone, in any way
            return False


def _is_multiplied(plain: object, actual: Tensor, factor: Tensor, shape: torch.Size) -> bool:
    """Whether the second output is the first one times ``factor``, ``(K,)``, to rounding, and both are of a shape."""
    if not isinstance(plain, Tensor) or plain.shape != shape:
        return False
    expected = plain.double() * factor.to(plain.device).double()
    allowed = 8 * torch.finfo(actual.dtype).eps * expected.abs().amax(dim=tuple(range(expected.ndim - 1)))
    return bool(((actual.double() - expected).abs() <= allowed).all())


def may_scale(module: nn.Module) -> bool:
    """Whether a module's parameters are one number for each channel: a ``weight`` and perhaps a ``bias``."""
    parameters = dict(module.named_parameters())
    if any(map(nn.parameter.is_lazy, parameters.values())):
        return False
    shapes = {parameter.shape for parameter in parameters.values()}
    return (
        "weight" in parameters
        and parameters.keys() <= _NAMES
        and len(shapes) == 1
        and len(next(iter(shapes))) == 1
        and all(parameter.is_floating_point() for parameter in parameters.values())
    )


def scaled(module: nn.Module, factor: Tensor) -> nn.Module:
    """A copy whose parameters are multiplied by ``factor``, ``(K,)``."""
    copied = copy.copy(module)
    copied._parameters = {  # noqa: SLF001 - a shallow copy shares this table with the original until it gets its own
        name: nn.Parameter(
            (tensor.detach().double() * factor.to(tensor.device).double()).to(tensor.dtype), requires_grad=False
        )
        for name, tensor in module.named_parameters(recurse=False)
    }
    return copied
