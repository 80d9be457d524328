"""What all quantized modules share."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from mono_quant.core.affine import choose_qparams, dequantize, quantize
from mono_quant.core.qtypes import UINT8
from mono_quant.kernels.select import NamedKernel
from mono_quant.modules.engine import Engine
from mono_quant.plugin_api.kernel import QuantizedOp

__all__ = ["QuantizedModule"]


class QuantizedModule(nn.Module):
    """A layer with int8 weights and uint8 inputs, both plain tensors.

    ====================  ========  =====================================================
    in the ``state_dict``  dtype     shape
    ====================  ========  =====================================================
    ``weight``            int8      as the float layer's
    ``weight_scale``      float32   ``(out,)``
    ``input_scale``       float32   ``()``, unless each input has its own (dynamic)
    ``input_zero_point``  int32     ``()``, likewise
    ``bias``              float     ``(out,)``, where there is one
    ====================  ========  =====================================================

    The packed weights of the kernels are not part of it: they are dropped by ``load_state_dict``, ``to``, copying and
    pickling, and made again at the next call. After writing into a tensor of the module by hand, call `repack`.
    Numbers keep their dtypes whatever ``half()`` or ``to(dtype)`` say; outputs have the dtype of the input.

    Inside ``torch.compile``, ``torch.export`` and ``torch.jit.trace`` the same arithmetic is written out in plain float
    operations, which those can trace; it is right to float rounding and has no int8 speed.
    """

    weight: Tensor
    weight_scale: Tensor
    input_scale: Tensor | None
    input_zero_point: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        weight_scale: Tensor,
        input_scale: Tensor | None,
        input_zero_point: Tensor | None,
        bias: Tensor | None,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("weight_scale", weight_scale)
        self.register_buffer("input_scale", input_scale)
        self.register_buffer("input_zero_point", input_zero_point)
        self.register_buffer("bias", bias)
        self.engine = Engine()

    def use_kernels(self, kernels: tuple[NamedKernel, ...], wanted: str = "auto") -> None:
        """Choose from these kernels from now on."""
        self.engine = Engine(kernels, wanted)

    def repack(self) -> None:
        """Pack the weights anew at the next call, after a tensor of the module was written into."""
        self.engine.clear()

    def dequantized_weight(self, rows: slice = slice(None)) -> Tensor:
        """The float32 weight that the codes stand for, or some of its rows."""
        return dequantize(self.weight[rows], self.weight_scale[rows].reshape(-1, *[1] * (self.weight.ndim - 1)))

    @abstractmethod
    def op(self) -> QuantizedOp:
        """The arithmetic of this layer, for the kernels."""

    @abstractmethod
    def float_op(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The float layer's own function."""

    def run(self, x: Tensor) -> Tensor:
        """The op on a float32 input of the kernels' shape."""
        if not x.numel():
            return self.float_op(x, self.dequantized_weight(), None)
        return self.engine(x.detach(), self.op)

    def traceable(self, x: Tensor) -> Tensor:
        """The same arithmetic in plain float operations."""
        x = as_float32(x)
        scale, zero_point = self.input_scale, self.input_zero_point
        if scale is None or zero_point is None:
            scale, zero_point = choose_qparams(*torch.aminmax(x), UINT8)
        x = dequantize(quantize(x, scale, zero_point, UINT8), scale, zero_point)
        bias = None if self.bias is None else self.bias.float()
        return self.float_op(x, self.dequantized_weight(), bias)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's own
        self.engine.clear()

        def keeping_dtype(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(keeping_dtype, recurse)  # type: ignore[no-untyped-call, no-any-return]

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:  # noqa: ANN401
        loaded = state_dict.get(f"{prefix}weight")
        if isinstance(loaded, Tensor) and loaded.dtype != self.weight.dtype:
            rest[-1].append(  # torch's list of what is wrong
                f"{prefix}weight is {loaded.dtype}: a quantized layer takes its {self.weight.dtype} codes only"
            )
            return
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self.engine.clear()


def as_float32(x: Tensor) -> Tensor:
    """A float input in the kernels' dtype.

    Raises:
        TypeError: when it holds integers; an output of their dtype would be cut off.
    """
    if not x.is_floating_point():
        raise TypeError(f"expected a float input, got {x.dtype}")
    return x.float()


def is_traced() -> bool:
    """Whether torch records this call instead of only running it."""
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None  # noqa: SLF001 - no typed public way
