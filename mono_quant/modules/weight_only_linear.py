"""``nn.Linear`` with a quantized weight and a float input, run by the fastest kernel there is."""

import torch
from torch import Tensor
from torch.nn import functional

from mono_quant.kernels.select import NamedKernel
from mono_quant.modules.base import as_float32, has_gradients, is_compiled, is_traced
from mono_quant.modules.compiled_weight_only import weight_only_linear
from mono_quant.modules.engine import Engine
from mono_quant.modules.recording import is_recording
from mono_quant.modules.weight_only import WeightOnly
from mono_quant.plugin_api.kernel import WeightOnlyOp

__all__ = ["LinearByKernel"]

_COMPILED = (torch.float32, torch.bfloat16, torch.float16)
"""Dtypes of inputs for which the compiler is given the operator."""


class LinearByKernel(WeightOnly):
    """What is mixed into ``nn.Linear``: ``(..., in_features) → (..., out_features)``, dtype of the input.

    Called, it runs a kernel; its ``weight`` still reads as float for those who look at it. ``nn.Linear``'s own function
    of that weight runs where torch traces, where gradients are to flow (the input or the bias requires them, and there
    is no ``torch.no_grad()``), and under autocast. Of torch's tracers the compiler does better: for float32, bfloat16
    and float16 inputs the layer is one operator, which runs a kernel, see `mono_quant.modules.compiled_weight_only`.
    """

    engine: Engine
    in_features: int
    out_features: int
    bias: Tensor | None
    own_attributes = (*WeightOnly.own_attributes, "engine")

    @property
    def kernels_in_use(self) -> tuple[str, ...]:
        """Names of the kernels in use, in the order in which they were chosen."""
        return self.engine.chosen

    def use_kernels(self, kernels: tuple[NamedKernel, ...], wanted: str = "auto") -> None:
        """Choose from these kernels from now on."""
        self.engine = Engine(kernels, wanted)

    def repack(self) -> None:
        """Let go of what was made from the codes."""
        super().repack()
        self.engine.clear()

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of nn.Linear's parameter
        """``x · weightᵀ + bias``."""
        is_for_kernels = not (
            has_gradients(input, *self._parameters.values()) or torch.is_autocast_enabled(input.device.type)
        )
        is_operator = is_compiled() and not is_recording()  # who reads operators is given the weight alone
        if is_for_kernels and is_operator and input.device.type == "cpu" and input.dtype in _COMPILED:
            return self._compiled(input)
        if not is_for_kernels or is_traced() or not input.numel():
            return functional.linear(input, self.read("weight"), self.bias)
        if input.shape[-1] != self.in_features:
            raise RuntimeError(f"expected an input of shape (..., {self.in_features}), got {list(input.shape)}")
        x = as_float32(input.detach().reshape(-1, self.in_features))
        tensors = (*self.stored("weight").values(), self._parameters["bias"])
        y = self.engine(x, tensors, self.op)
        return y.reshape(*input.shape[:-1], self.out_features).to(input.dtype)

    def _compiled(self, x: Tensor) -> Tensor:
        """The compiler's operator for this layer."""
        stored, spec, engine = self.stored("weight"), self.weight_specs["weight"], self.engine
        tensors = (stored[""], stored.get("_scale"), stored.get("_zero_point"), self.bias)
        names = [name for name, _ in engine.kernels]
        y: Tensor = weight_only_linear(
            x.float(), *tensors, spec.dtype.name, str(spec.granularity), spec.shape, names, engine.wanted
        )
        return y.to(x.dtype)

    def op(self) -> WeightOnlyOp:
        """The arithmetic, for the kernels."""
        bias = None if self.bias is None else self.bias.detach().float()
        return WeightOnlyOp(stored=self.stored("weight"), spec=self.weight_specs["weight"], bias=bias)
