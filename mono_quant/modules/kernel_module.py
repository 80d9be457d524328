"""Layers whose whole arithmetic is one op that a kernel runs."""

from collections.abc import Mapping

from torch import Tensor, nn

from mono_quant.core.affine import dequantize, quantize
from mono_quant.core.qtypes import UINT8
from mono_quant.core.tensor_spec import TensorSpec, WeightSpec
from mono_quant.kernels.select import NamedKernel
from mono_quant.modules.base import QuantizedModule, as_float32
from mono_quant.modules.dynamic import input_qparams
from mono_quant.modules.engine import Engine
from mono_quant.plugin_api.kernel import QuantizedOp

__all__ = ["KernelModule"]


class KernelModule(QuantizedModule):
    """A layer with int8 weights and uint8 inputs.

    ======================  ========  =================================================
    in the ``state_dict``   dtype     shape
    ======================  ========  =================================================
    ``weight``              int8      as the float layer's
    ``weight_scale``        float32   ``(out,)``
    ``input_scale``         float32   ``()``, unless each input has its own (dynamic)
    ``input_zero_point``    int32     ``()``, likewise
    ``bias``                float     ``(out,)``, where there is one
    ======================  ========  =================================================

    The packed weights of the kernels are not part of it: they are dropped by ``load_state_dict``, ``to``, copying and
    pickling, and made again at the next call, also when a tensor of the module was replaced or written into. Torch
    does not tell of writes through ``.data``, nor into tensors made in inference mode: call `repack` after them.
    Numbers keep their dtypes whatever ``half()`` or ``to(dtype)`` say; outputs have the dtype of the input.

    Inside ``torch.compile``, ``torch.export`` and ``torch.jit.trace`` the same arithmetic is written out in plain float
    operations, which those can trace; it is right to float rounding and has no int8 speed.

    Args:
        layer: the float layer; its bias is copied.
        spec: how the weight is stored.
        stored: its tensors, by suffix.
        input_spec: how the input is quantized.
        input_qparams: scale and zero point of a static input.
    """

    input_spec: TensorSpec
    weight: Tensor
    weight_scale: Tensor
    input_scale: Tensor | None
    input_zero_point: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        layer: nn.Module,
        spec: WeightSpec,
        stored: Mapping[str, Tensor],
        input_spec: TensorSpec,
        input_qparams: tuple[Tensor, Tensor] | None,
    ) -> None:
        super().__init__()
        self.weight_specs = {"weight": spec}
        self.input_spec = input_spec
        self.store("weight", stored)
        scale, zero_point = input_qparams or (None, None)
        self.register_buffer("input_scale", scale)
        self.register_buffer("input_zero_point", zero_point)
        bias = layer.bias
        copied = nn.Parameter(bias.detach().clone(), requires_grad=False) if isinstance(bias, Tensor) else None
        self.register_parameter("bias", copied)
        self.engine = Engine()
        self.train(layer.training)

    @property
    def kernels_in_use(self) -> tuple[str, ...]:
        """Names of the kernels in use, in the order in which they were chosen."""
        return self.engine.chosen

    @property
    def input_qparams(self) -> tuple[Tensor, Tensor] | None:
        """Those of a static input."""
        if self.input_scale is None or self.input_zero_point is None:
            return None
        return self.input_scale, self.input_zero_point

    def use_kernels(self, kernels: tuple[NamedKernel, ...], wanted: str = "auto") -> None:
        """Choose from these kernels from now on."""
        self.engine = Engine(kernels, wanted)

    def repack(self) -> None:
        """Pack the weights anew at the next call."""
        self.engine.clear()

    def op(self) -> QuantizedOp:
        """The arithmetic of this layer, for the kernels."""
        raise NotImplementedError

    def float_op(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The float layer's own function."""
        raise NotImplementedError

    def run(self, x: Tensor) -> Tensor:
        """The op on a float32 input of the kernels' shape."""
        if not x.numel():
            return self.float_op(x, self.dequantized(), None)
        integers, floats = self._buffers, self._parameters  # not by attribute, which is slow in a module
        own = (
            integers["weight"], floats["weight_scale"], floats["bias"],
            integers["input_scale"], integers["input_zero_point"],
        )  # fmt: skip
        return self.engine(x.detach(), own, self.op)

    def traceable(self, x: Tensor) -> Tensor:
        """The same arithmetic in plain float operations."""
        x = as_float32(x)
        scale, zero_point = self.input_scale, self.input_zero_point
        if scale is None or zero_point is None:
            scale, zero_point = input_qparams(x, self.input_spec)
        x = dequantize(quantize(x, scale, zero_point, UINT8), scale, zero_point)
        bias = None if self.bias is None else self.bias.float()
        return self.float_op(x, self.dequantized(), bias)

    def _fixed(self) -> list[Tensor]:
        others = (self.input_scale, self.input_zero_point, self.bias)
        return [*super()._fixed(), *(tensor for tensor in others if tensor is not None)]
