"""What all quantized modules share: parameters that are stored as codes, and kernels to choose from."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import attrs
import torch
from torch import Tensor, nn

from mono_quant.core.encoding import decode
from mono_quant.core.tensor_spec import WeightSpec
from mono_quant.kernels.select import NamedKernel
from mono_quant.modules.compiled_engines import forget
from mono_quant.modules.recording import dequantize_weight, is_recording
from mono_quant.plugin_api.layer import QuantizedLayer

__all__ = ["QuantizedModule", "as_float32", "has_gradients", "is_compiled", "is_recorded", "is_traced"]


class QuantizedModule(QuantizedLayer):
    """A layer with quantized parameters, in plain tensors under the parameters' own names.

    ``<p>`` holds the codes of parameter ``p``, ``<p>_scale`` and ``<p>_zero_point`` what they stand for; see
    `mono_quant.plugin_api.WeightSpec` for dtypes and shapes. Those that are floating-point are frozen parameters, so
    that ``next(model.parameters())`` tells device and dtype as ever; the integers are buffers. ``half()`` and
    ``to(dtype)`` leave them as they are; the ``float_dtype`` of ``weight_specs`` follows.

    What raises `NotImplementedError` here is for each kind of layer to say. It is no ABC, whose metaclass would clash
    with that of a user's layer that has another.
    """

    @property
    def kernels_in_use(self) -> tuple[str, ...]:
        """Names of the kernels in use so far."""
        raise NotImplementedError

    def use_kernels(self, kernels: tuple[NamedKernel, ...], wanted: str = "auto") -> None:
        """Choose from these kernels from now on."""
        raise NotImplementedError

    def repack(self) -> None:
        """Let go of what was prepared from the tensors; it is made again at the next call."""
        raise NotImplementedError

    def to_float(self, made: dict[int, nn.Parameter]) -> nn.Module:
        """The plain float layer, with the weights that the codes stand for, around the same modules, quantized or not.

        Args:
            made: address of codes → the parameter made of them, so that tied weights stay tied; it is added to.
        """
        raise NotImplementedError

    def store(self, name: str, stored: Mapping[str, Tensor]) -> None:
        """Keep the tensors of one quantized parameter."""
        for suffix, tensor in stored.items():
            # Not by register_buffer, which refuses a name that is also a property of the class.
            if tensor.is_floating_point():
                self._parameters[name + suffix] = nn.Parameter(tensor, requires_grad=False)
            else:
                self._buffers[name + suffix] = tensor

    def stored(self, name: str) -> dict[str, Tensor]:
        """The tensors of one quantized parameter, by suffix: ``""``, ``"_scale"``, ``"_zero_point"``."""
        return {suffix: self._tensor(name + suffix) for suffix in self.weight_specs[name].suffixes}

    def dequantized(self, name: str = "weight") -> Tensor:
        """The float32 weight that the codes stand for, of the float parameter's shape."""
        stored = self.stored(name)
        if is_recording() and is_traced():
            return dequantize_weight(stored, self.weight_specs[name])
        return decode(stored, self.weight_specs[name], at_once=is_recorded(*stored.values()))

    def float_parameter(self, name: str, made: dict[int, nn.Parameter]) -> nn.Parameter:
        """That weight as a parameter of its own dtype; for ``made`` see `to_float`."""
        place = self._tensor(name).data_ptr() or id(self._tensor(name))  # on meta there are no addresses
        if place not in made:
            made[place] = nn.Parameter(self.dequantized(name).to(self.weight_specs[name].dequantized_dtype))
        return made[place]

    def _forget_compiled(self) -> None:
        """The part of `repack` that is done for what ``torch.compile`` made of the layer."""
        forget(table.get(name) for name in self.weight_specs for table in (self._parameters, self._buffers))

    def _tensor(self, name: str) -> Tensor:
        tensor: Tensor | None = self._parameters.get(name)
        tensor = self._buffers.get(name) if tensor is None else tensor
        if tensor is None:
            raise AttributeError(f"{type(self).__name__} has lost its tensor {name!r}")
        return tensor

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's own
        self.repack()
        kept = {id(tensor) for tensor in self._fixed()}
        self.weight_specs = {name: _converted(spec, fn) for name, spec in self.weight_specs.items()}

        def keeping_dtype(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return tensor.to(moved.device) if id(tensor) in kept and moved.dtype != tensor.dtype else moved

        return super()._apply(keeping_dtype, recurse)  # type: ignore[no-untyped-call, no-any-return]

    def _fixed(self) -> list[Tensor]:
        """The tensors whose dtype ``half()`` and ``to(dtype)`` leave alone."""
        return [tensor for name in self.weight_specs for tensor in self.stored(name).values()]

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - torch's own
        self.refuse_float(name, value)
        super().__setattr__(name, value)

    def refuse_float(self, name: str, value: object) -> None:
        """Refuse a float tensor in place of codes.

        Raises:
            TypeError: naming the parameter.
        """
        spec = vars(self).get("weight_specs", {}).get(name)
        if spec is not None and isinstance(value, Tensor) and value.dtype != spec.dtype.storage:
            raise TypeError(
                f"{name!r} of this {type(self).__name__} is stored as {spec.dtype.storage} codes and cannot be set to "
                f"a {value.dtype} tensor: set it in the float model and quantize that"
            )

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:  # noqa: ANN401
        for name, spec in self.weight_specs.items():
            for suffix, (dtype, _) in spec.layout.items():
                loaded = state_dict.get(prefix + name + suffix)
                if isinstance(loaded, Tensor) and loaded.dtype != dtype:
                    what = f"{dtype} {'numbers' if suffix else 'codes'} only"
                    # torch's list of what is wrong
                    rest[-1].append(f"{prefix}{name}{suffix} is {loaded.dtype}: a quantized layer takes its {what}")
                    return
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self.repack()


def as_float32(x: Tensor) -> Tensor:
    """A float input in the kernels' dtype.

    Raises:
        TypeError: when it holds integers; an output of their dtype would be cut off.
    """
    if not x.is_floating_point():
        raise TypeError(
            f"expected a float input, got {x.dtype}. In a quantized layer layer.weight.dtype is that of codes: if "
            "forward casts to it, quantize with calibration_data (one batch is enough), and that layer stays in float"
        )
    return x.float()


def is_traced() -> bool:
    """Whether torch records or transforms this call instead of only running it."""
    return (  # there is no typed public way
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._functorch.peek_interpreter_stack() is not None
    )


def is_compiled() -> bool:
    """Whether what torch traces may be operators of ours: for code that runs here, or for who reads them.

    Not inside ``torch.func``, whose transforms look into what they transform.
    """
    return (
        torch.compiler.is_compiling()
        and (is_recording() or not torch.compiler.is_exporting())
        and not torch._C._are_functorch_transforms_active()  # there is no public way
    )


def is_recorded(*tensors: Tensor | None) -> bool:
    """Whether it does, or keeps what is computed from these tensors for a backward pass."""
    return is_traced() or has_gradients(*tensors)


def has_gradients(*tensors: Tensor | None) -> bool:
    """Whether gradients are to flow to one of these tensors."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _converted(spec: WeightSpec, fn: Callable[[Tensor], Tensor]) -> WeightSpec:
    """How a parameter is stored that would itself have become another by ``fn``."""
    dtype = fn(torch.empty(0, dtype=spec.dequantized_dtype)).dtype
    return attrs.evolve(spec, float_dtype=str(dtype).removeprefix("torch.")) if dtype.is_floating_point else spec
