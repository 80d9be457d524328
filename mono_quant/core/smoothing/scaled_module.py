"""Modules whose output can be multiplied channel by channel by multiplying their parameters, as that of a norm."""

import copy

import torch
from torch import Tensor, nn

__all__ = ["SomeRows", "may_scale", "scaled"]

_ROWS = 16
_NAMES = {"weight", "bias"}


class SomeRows:
    """A few rows that a module was given: what a claim about its function is tried on."""

    def __init__(self) -> None:
        self._rows: Tensor | None = None

    def __call__(self, x: Tensor) -> None:
        """Keep rows of the first input ``(..., K)`` that is not empty."""
        rows = x.detach().reshape(-1, x.shape[-1]) if x.ndim else x
        if self._rows is None and rows.numel():
            self._rows = rows[:_ROWS].clone()

    def prove(self, module: nn.Module, factor: Tensor) -> bool:
        """Whether `scaled` gives the module's output times ``factor``, ``(K,)``, on these rows, to rounding."""
        if self._rows is None or factor.shape != self._rows.shape[-1:]:
            return False
        with torch.no_grad():
            expected, actual = (one(self._rows) for one in (module, scaled(module, factor)))
        if not isinstance(expected, Tensor) or expected.shape != self._rows.shape:
            return False
        expected = expected.double() * factor.to(expected.device).double()
        allowed = 8 * torch.finfo(actual.dtype).eps * expected.abs().amax(dim=0)
        return bool(((actual.double() - expected).abs() <= allowed).all())


def may_scale(module: nn.Module) -> bool:
    """Whether a module's parameters are one number for each channel: a ``weight`` and perhaps a ``bias``."""
    parameters = dict(module.named_parameters())
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
