"""Linear layers whose input is multiplied by a factor for each of its features, float and quantized.

    y = x · Wᵀ + b = (x ∘ f) · (W / f)ᵀ + b

Where the norm before a layer is read by others too, its scale cannot take the factor: then the layer has it itself.
"""

from collections.abc import Mapping
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mono_quant.core.tensor_spec import TensorSpec, WeightSpec
from mono_quant.modules.base import as_float32
from mono_quant.modules.linear import QuantizedLinear
from mono_quant.modules.weight_only_linear import LinearByKernel

__all__ = ["QuantizedSmoothedLinear", "SmoothedByKernel", "SmoothedLinear"]


class SmoothedLinear(nn.Linear):
    """``nn.Linear`` of ``x ∘ input_factor``; the factor is a frozen parameter, ``(in_features,)``."""

    input_factor: Tensor

    @classmethod
    def of(cls, layer: nn.Linear, weight: Tensor, input_factor: Tensor) -> Self:
        """A smoothed layer with another's bias, which is shared.

        Args:
            layer: stays as it is.
            weight: ``(out_features, in_features)``, for the input after it was multiplied.
            input_factor: ``(in_features,)``, float.
        """
        smoothed = cls(layer.in_features, layer.out_features, bias=False, device="meta")
        smoothed.weight = nn.Parameter(weight, requires_grad=False)
        smoothed.bias = layer.bias
        smoothed.input_factor = nn.Parameter(input_factor, requires_grad=False)
        return smoothed.train(layer.training)

    def quantized_input(self, x: Tensor) -> Tensor:
        """What of an input is multiplied by the weight, and so quantized; ``(..., in_features)``, dtype of ``x``."""
        return x * self.input_factor.to(x.dtype)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of nn.Linear's parameter
        """``(..., in_features) → (..., out_features)``."""
        return functional.linear(self.quantized_input(input), self.weight, self.bias)


class QuantizedSmoothedLinear(QuantizedLinear):
    """`QuantizedLinear` of ``x ∘ input_factor``.

    The factor, float32 ``(in_features,)``, is in the ``state_dict`` beside the tensors of every quantized linear layer.
    """

    input_factor: Tensor

    def __init__(
        self,
        layer: SmoothedLinear,
        spec: WeightSpec,
        stored: Mapping[str, Tensor],
        input_spec: TensorSpec,
        input_qparams: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__(layer, spec, stored, input_spec, input_qparams)
        factor = layer.input_factor.detach().to(torch.float32, copy=True)
        self.register_parameter("input_factor", nn.Parameter(factor, requires_grad=False))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of nn.Linear's parameter
        """``(..., in_features) → (..., out_features)``, dtype of the input."""
        if input.shape[-1] != self.in_features:
            raise RuntimeError(f"expected an input of shape (..., {self.in_features}), got {list(input.shape)}")
        return super().forward(as_float32(input) * self.input_factor).to(input.dtype)

    def to_float(self, made: dict[int, nn.Parameter]) -> nn.Linear:
        """The plain ``nn.Linear`` of the same function: the factor goes back into the weight."""
        layer = super().to_float(made)
        weight = layer.weight.detach() * self.input_factor.to(layer.weight.dtype)
        layer.weight = nn.Parameter(weight)
        return layer

    def _fixed(self) -> list[Tensor]:
        return [*super()._fixed(), self.input_factor]

    def extra_repr(self) -> str:
        """As `QuantizedLinear`."""
        return f"{super().extra_repr()}, smoothed"


class SmoothedByKernel(LinearByKernel):
    """`LinearByKernel` of ``x ∘ input_factor``: what is mixed into `SmoothedLinear`.

    The factor, ``(in_features,)``, stays a parameter of the layer.
    """

    input_factor: Tensor

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of nn.Linear's parameter
        """``(..., in_features) → (..., out_features)``, dtype of the input."""
        if input.shape[-1] != self.in_features:
            raise RuntimeError(f"expected an input of shape (..., {self.in_features}), got {list(input.shape)}")
        return super().forward(input * self.input_factor.to(input.dtype))

    def to_float(self, made: dict[int, nn.Parameter]) -> nn.Linear:
        """The plain ``nn.Linear`` of the same function: the factor goes back into the weight."""
        smoothed = cast("SmoothedLinear", super().to_float(made))
        layer = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        weight = smoothed.weight.detach()
        layer.weight = nn.Parameter(weight * smoothed.input_factor.to(weight.dtype))
        layer.bias = smoothed.bias
        return layer.train(self.training)
