"""Quantized ``nn.Linear``."""

from torch import Tensor, nn
from torch.nn import functional

from mono_quant.modules.base import QuantizedModule, as_float32, is_traced
from mono_quant.plugin_api.kernel import QuantizedOp

__all__ = ["QuantizedLinear"]


class QuantizedLinear(QuantizedModule):
    """``y = x · weightᵀ + bias`` with int8 codes; ``(..., in_features) → (..., out_features)``."""

    def __init__(
        self,
        weight: Tensor,
        weight_scale: Tensor,
        input_scale: Tensor | None,
        input_zero_point: Tensor | None,
        bias: Tensor | None,
    ) -> None:
        super().__init__(weight, weight_scale, input_scale, input_zero_point, bias)
        self.out_features, self.in_features = weight.shape

    @classmethod
    def like(cls, layer: nn.Linear, tensors: dict[str, Tensor | None]) -> "QuantizedLinear":
        """A quantized layer in place of ``layer`` with the given tensors."""
        del layer  # its whole configuration is in the shape of the weight
        return cls(**tensors)  # type: ignore[arg-type]

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of nn.Linear's parameter
        """``(..., in_features) → (..., out_features)``, dtype of the input."""
        if is_traced():
            return self.traceable(input).to(input.dtype)
        if input.shape[-1] != self.in_features:
            raise RuntimeError(f"expected an input of shape (..., {self.in_features}), got {list(input.shape)}")
        y = self.run(as_float32(input.reshape(-1, self.in_features)))
        return y.reshape(*input.shape[:-1], self.out_features).to(input.dtype)

    def op(self) -> QuantizedOp:
        """The arithmetic, for the kernels."""
        return QuantizedOp(
            kind="linear",
            weight=self.weight,
            weight_scale=self.weight_scale,
            bias=None if self.bias is None else self.bias.float(),
            input_scale=None if self.input_scale is None else float(self.input_scale),
            input_zero_point=None if self.input_zero_point is None else int(self.input_zero_point),
        )

    def float_op(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """``nn.Linear``'s function."""
        return functional.linear(x, weight, bias)

    def extra_repr(self) -> str:
        """As ``nn.Linear`` shows itself."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
