"""Activations that a kernel can apply to the output of a layer."""

from collections.abc import Callable

import attrs
from attrs.validators import in_
from torch import Tensor
from torch.nn import functional

__all__ = ["ACTIVATIONS", "EXAMPLES", "Activation"]

ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "relu": functional.relu,
    "hardtanh": functional.hardtanh,
    "hardswish": functional.hardswish,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu-tanh": lambda x: functional.gelu(x, approximate="tanh"),
}
"""Name → the float function that it stands for."""


@attrs.frozen
class Activation:
    """A function of each element.

    Args:
        name: one of `ACTIVATIONS`.
        arguments: of ``"hardtanh"`` the lower and the upper end; no other has any.
    """

    name: str = attrs.field(validator=in_(ACTIVATIONS))
    arguments: tuple[float, ...] = attrs.field(default=())

    @arguments.validator
    def _are_complete(self, _: object, value: tuple[float, ...]) -> None:
        wanted = 2 * (self.name == "hardtanh")
        if len(value) != wanted:
            raise ValueError(f"{self.name} has {wanted} arguments, got {value!r}")

    def __call__(self, x: Tensor) -> Tensor:
        """The function itself."""
        return ACTIVATIONS[self.name](x, *self.arguments)


EXAMPLES = tuple(Activation(name, (-0.5, 1.25) if name == "hardtanh" else ()) for name in ACTIVATIONS)
"""One of each name, to try a kernel with."""
