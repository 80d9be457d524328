"""Quantized ``nn.Linear``."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from mono_quant.core.tensor_spec import TensorSpec, WeightSpec
from mono_quant.modules.base import as_float32, is_traced
from mono_quant.modules.compiled_linear import compiled_linear
from mono_quant.modules.deferred import plain, settled, shape_of
from mono_quant.modules.dynamic import is_per_token
from mono_quant.modules.kernel_module import KernelModule
from mono_quant.modules.linear_op import by_token, linear_op
from mono_quant.plugin_api.kernel import QuantizedOp

__all__ = ["QuantizedLinear"]


class QuantizedLinear(KernelModule):
    """``y = x · weightᵀ + bias`` with a quantized weight; ``(..., in_features) → (..., out_features)``."""

    kind = "linear"

    def __init__(
        self,
        layer: nn.Linear,
        spec: WeightSpec,
        stored: Mapping[str, Tensor],
        input_spec: TensorSpec,
        input_qparams: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__(layer, spec, stored, input_spec, input_qparams)
        self.out_features, self.in_features = spec.shape
        self._is_per_token = is_per_token(input_spec)
        # The one behind attention is of a class that says so.
        self.float_class = next(
            kind for kind in (NonDynamicallyQuantizableLinear, nn.Linear) if isinstance(layer, kind)
        )

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of nn.Linear's parameter
        """``(..., in_features) → (..., out_features)``, dtype of the input."""
        if is_traced():
            return self.traceable(input).to(input.dtype)
        input = settled(input)  # noqa: A001
        if (shape := shape_of(input))[-1] != self.in_features:
            raise RuntimeError(f"expected an input of shape (..., {self.in_features}), got {list(shape)}")
        if (fused := self.fused(input)) is not None:
            return fused
        x = as_float32(plain(input).reshape(-1, self.in_features))
        y = self._by_token(x) if self._is_per_token else self.run(x)
        return y.reshape(*shape[:-1], self.out_features).to(input.dtype)

    def as_kernel_input(self, x: Tensor) -> Tensor:
        """``(N, in_features)``."""
        return x.reshape(-1, self.in_features)

    def output_shape(self, shape: torch.Size) -> torch.Size:
        """``(..., out_features)``."""
        return torch.Size((*shape[:-1], self.out_features))

    def _by_token(self, x: Tensor) -> Tensor:
        """Each row with its own range."""
        return by_token(x, self.bias, self.input_spec, self.run) if x.numel() else self.run(x)

    def compiled(self, x: Tensor) -> Tensor:
        """The compiler's operator, for each row in units of its own scale where it has one."""
        if not self._is_per_token:
            return super().compiled(x)
        return compiled_linear(x, (self.weight, self.weight_scale), self.bias, self.input_spec)

    def op(self) -> QuantizedOp:
        """The arithmetic, for the kernels."""
        qparams = (self.input_scale, self.input_zero_point)
        return linear_op(self.weight, self.weight_scale, self.bias, self.input_spec, qparams)

    def float_op(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """``nn.Linear``'s function."""
        return functional.linear(x, weight, bias)

    def to_float(self, made: dict[int, nn.Parameter]) -> nn.Linear:
        """The ``nn.Linear`` with the weight that the codes stand for."""
        layer = self.float_class(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        layer.weight = self.float_parameter("weight", made)
        if self.bias is not None:
            layer.bias = nn.Parameter(self.bias.detach().to(layer.weight.dtype, copy=True))
        return layer.train(self.training)

    def extra_repr(self) -> str:
        """As ``nn.Linear`` shows itself, and how it is stored."""
        shape = f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        return f"{shape}, {self.weight_specs['weight']}"
