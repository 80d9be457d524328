"""Layers whose whole arithmetic is one op that a kernel runs."""

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from mono_quant.core.affine import quantize
from mono_quant.core.qtypes import UINT8
from mono_quant.core.tensor_spec import TensorSpec, WeightSpec
from mono_quant.core.tensors import CHANNELS_LAST
from mono_quant.kernels.select import NamedKernel
from mono_quant.modules.base import QuantizedModule, as_float32, is_compiled
from mono_quant.modules.compiled import deferred_layer, int8_layer
from mono_quant.modules.compiled_codes import codes_for
from mono_quant.modules.deferred import Deferred, is_ordinary, plain, shape_of
from mono_quant.modules.dynamic import input_qparams
from mono_quant.modules.engine import Engine
from mono_quant.modules.layer_output import Demand, LayerOutput
from mono_quant.modules.linear_op import for_sums, scaled
from mono_quant.modules.recording import is_recording
from mono_quant.modules.recording import quantize as recorded_quantize
from mono_quant.modules.steps import Steps
from mono_quant.plugin_api.kernel import FusedRun, OpKind, QuantizedOp
from mono_quant.plugin_api.plan import Handover

__all__ = ["KernelModule"]

_GIVING_CODES = ("conv1d", "conv2d")
"""Of the layers that a compiler runs: to these oneDNN applies activations, and no other kernel is mostly faster."""

Geometry = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]


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

    Inside ``torch.compile`` a layer is one operator, which runs kernels, see `mono_quant.modules.compiled`. Inside
    ``torch.export`` and ``torch.jit.trace`` the same arithmetic is written out in plain float operations: on whole
    numbers, so that it gives the bits of the reference kernel as long as no sum reaches 2^24. It has no int8 speed.

    Args:
        layer: the float layer; its bias is copied.
        spec: how the weight is stored.
        stored: its tensors, by suffix.
        input_spec: how the input is quantized.
        input_qparams: scale and zero point of a static input.
    """

    kind: ClassVar[OpKind]
    geometry: Geometry = ((), (), (), 1)
    """Stride, padding, dilation and groups, as of `QuantizedOp`."""
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
        self.handover: Handover = "float"
        """How the output is given; what is asked of it decides."""
        self.demands: set[Demand] | None = None
        """What is asked of it, while that is being watched; else None."""
        self._last_shapes = (torch.Size(), torch.Size())
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
        self._forget_compiled()
        self.engine.clear()

    @property
    def takes_codes(self) -> bool:
        """Whether its input has one scale for all times, so that another layer can give its codes."""
        if self._buffers.get("input_scale") is not None:  # not by attribute first, which is slow in a module
            return True
        return self.input_scale is not None

    def op(self) -> QuantizedOp:
        """The arithmetic of this layer, for the kernels."""
        raise NotImplementedError

    def float_op(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The float layer's own function."""
        raise NotImplementedError

    def run(self, x: Tensor) -> Tensor:
        """The op on a plain float32 input of the kernels' shape."""
        if not x.numel():
            return self.float_op(x, self.dequantized(), None)
        x = x.detach()
        return self._packed(x, x.shape)(x)

    def as_kernel_input(self, x: Tensor) -> Tensor:
        """An input, or its codes, in the kernels' shape."""
        return x

    def output_shape(self, shape: torch.Size) -> torch.Size:
        """The shape of the output of an input of this shape."""
        raise NotImplementedError

    def fused(self, x: Tensor) -> Tensor | None:
        """The output by a kernel that takes codes and gives them; None where layer, kernel or input do not allow it.

        Args:
            x: float32, deferred or not, of the float layer's shape.
        """
        is_wanted = isinstance(x, Deferred) or (self.handover != "float" and x.dtype is torch.float32)
        if not is_wanted or not self.takes_codes or not is_ordinary(x):
            return None
        shape = shape_of(x)
        output_shape = self._output_shape_of(shape)
        if 0 in shape or 0 in output_shape:
            return None
        run = self._packed(x, shape)
        if self.demands is not None and self.input_qparams is not None:
            scale, zero_point = self.input_qparams
            run = Steps(run, float(scale), int(zero_point))
        if not isinstance(run, FusedRun):
            return None
        codes = x._codes(*run.input) if isinstance(x, Deferred) else run.encode(x.detach())
        can_be = self.kind != "linear" and (not isinstance(x, Deferred) or x._is_channels_last)
        output = LayerOutput(
            run,
            self.as_kernel_input(codes),
            output_shape,
            keeps_floats=self.handover == "deferred-float",
            demands=self.demands,
        )
        deferred = Deferred(output, is_channels_last=can_be and not x.is_contiguous() and _is_channels_last(x))
        return plain(deferred) if self.handover == "float" else deferred

    def _output_shape_of(self, shape: torch.Size) -> torch.Size:
        """That of the last call is remembered."""
        known, found = self._last_shapes
        if known != shape:
            found = self.output_shape(shape)
            self._last_shapes = shape, found
        return found

    def _packed(self, x: Tensor, shape: torch.Size) -> Callable[[Tensor], Tensor]:
        """The kernel for inputs of this shape."""
        integers, floats = self._buffers, self._parameters  # not by attribute, which is slow in a module
        own: tuple[Tensor | None, ...]
        try:
            own = (
                integers["weight"], floats["weight_scale"], floats["bias"],
                integers["input_scale"], integers["input_zero_point"],
            )  # fmt: skip
        except KeyError:  # parametrized, or a replica of a model in several places
            own = (self.weight, self.weight_scale, self.bias, self.input_scale, self.input_zero_point)
        return self.engine.packed(shape, own, self.op, lambda: self.as_kernel_input(_example(x)))

    def traceable(self, x: Tensor) -> Tensor:
        """The same arithmetic in operations that can be traced: by kernels for the compiler, else in plain floats.

        Args:
            x: float, of the float layer's shape.
        """
        x = as_float32(x)
        if is_compiled() and x.device.type == "cpu":
            return self.compiled(x)
        scale, zero_point = self.input_scale, self.input_zero_point
        if scale is None or zero_point is None:
            scale, zero_point = input_qparams(x, self.input_spec)
        codes = for_sums(quantize(x, scale, zero_point, UINT8)) - zero_point
        sums = self.float_op(codes, for_sums(self.weight), None)
        return scaled(sums, self.weight_scale, scale, self.bias, (-1, *[1] * len(self.geometry[0])))

    def compiled(self, x: Tensor) -> Tensor:
        """The compiler's operator for this layer, its output laid out as the float layer's.

        Args:
            x: float32, of the float layer's shape.
        """
        x, layer = x.detach(), (self.weight, self.weight_scale, self.bias)
        given, qparams = x, self.input_qparams
        if is_recording():
            given = given if qparams is None else recorded_quantize(given, *qparams)
        elif self.kind == "linear":
            given = self.as_kernel_input(x)
            given = given if qparams is None else quantize(given, *qparams, UINT8)
        elif qparams is not None:
            given = codes_for(x, *qparams)
        is_deferred = self.handover == "deferred" and self.kind in _GIVING_CODES and qparams is not None
        operator = deferred_layer if is_deferred and not is_recording() else int8_layer
        y: Tensor = operator(given, *layer, *(qparams or (None, None)), self.kind, *self.geometry)
        y = y.contiguous()
        return y if given.ndim == x.ndim else y.reshape(*x.shape[: x.ndim - given.ndim + 1], *y.shape[1:])

    def _fixed(self) -> list[Tensor]:
        others = (self.input_scale, self.input_zero_point, self.bias)
        return [*super()._fixed(), *(tensor for tensor in others if tensor is not None)]


def _example(x: Tensor) -> Tensor:
    return x._example() if isinstance(x, Deferred) else x.detach()


def _is_channels_last(x: Tensor) -> bool:
    layout = CHANNELS_LAST.get(x.ndim)
    return layout is not None and x.is_contiguous(memory_format=layout)
