"""Any layer with quantized parameters that it reads as float: its own class, its own ``forward``, its own state names.

A subclass of the layer's class is made in which each quantized parameter is a property that gives the float weight.
Whatever the layer or its parent does with the weight goes on as before: packed sequences, projections, masks, fast
paths, ``forward`` methods of the user's own.
"""

import copy
from collections.abc import Container, Iterable, Mapping
from functools import partial
from types import new_class
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mono_quant.core.tensor_spec import WeightSpec
from mono_quant.kernels.float_cache import FLOAT_CACHE
from mono_quant.kernels.select import NamedKernel
from mono_quant.modules.base import QuantizedModule, is_recorded
from mono_quant.modules.engine import REFERENCE_ONLY

__all__ = ["WeightOnly", "as_weight_only", "name_clash", "why_no_subclass"]

_KERNEL = "dequantize"
_DERIVED = ("_flat_weights", "_flat_weight_refs")
"""Attributes of recurrent layers that hold their weights once more."""
_TABLES = frozenset(name for name, value in vars(nn.Module()).items() if isinstance(value, dict | set))
"""Attributes of every module in which torch keeps what belongs to it."""


class WeightOnly(QuantizedModule):
    """What is mixed into the layer's class.

    The float weight is made from the codes when it is read, and kept for the next time within a budget of memory, see
    `mono_quant.kernels.float_cache`. It has the dtype of the float parameter, and follows ``half()`` and ``to(dtype)``
    as that would have done; the codes do not. It cannot be trained, but gradients pass through the layer, and to its
    scales where they require one.

    The float weight is no place to write into: what is written there is lost, and through ``weight.data``, of which
    torch does not tell, it stays until `repack`. Call that also after a write into the ``.data`` of codes or scales.
    """

    mixin: type["WeightOnly"]
    float_class: type[nn.Module]
    own_attributes: ClassVar[tuple[str, ...]] = ("weight_specs", "parameter_order")
    """What an object has beside the attributes of a float layer."""
    parameter_order: tuple[str, ...]
    """Names of the float layer's parameters, in its order."""

    @property
    def kernels_in_use(self) -> tuple[str, ...]:
        """The weights are made float, the layer's own code runs."""
        return (_KERNEL,)

    def use_kernels(self, kernels: tuple[NamedKernel, ...], wanted: str = "auto") -> None:
        """There is no choice: the layer's own code runs."""

    def repack(self) -> None:
        """Let go of the float weights."""
        self._forget_compiled()
        FLOAT_CACHE.forget(id(self))

    def read(self, name: str) -> Tensor:
        """The float weight, as the layer reads it."""
        spec, stored = self.weight_specs[name], self.stored(name)
        if any(tensor.is_meta for tensor in stored.values()):  # while a file is being loaded, some are and some are not
            return torch.empty(spec.shape, dtype=spec.dequantized_dtype, device="meta")
        if is_recorded(*stored.values()):
            return self.dequantized(name).to(spec.dequantized_dtype)
        return FLOAT_CACHE.get(self, name, (*stored.values(),), lambda: self._made(name))

    def to_float(self, made: dict[int, nn.Parameter]) -> nn.Module:
        """The layer of the float class with the weights that the codes stand for."""
        ours = {name + suffix for name, spec in self.weight_specs.items() for suffix in spec.layout}
        layer = self.float_class.__new__(self.float_class)
        _take_over(layer, self, without=ours)
        parameters = {**layer._parameters, **{name: self.float_parameter(name, made) for name in self.weight_specs}}
        in_order = [name for name in self.parameter_order if name in parameters]
        layer._parameters = {name: parameters[name] for name in dict.fromkeys([*in_order, *parameters])}
        for attribute in self.own_attributes:
            vars(layer).pop(attribute)
        if isinstance(layer, nn.RNNBase):
            layer._init_flat_weights()
        return layer

    def _made(self, name: str) -> Tensor:
        # An ordinary tensor also when it is first read in inference mode, for it is kept.
        with torch.inference_mode(mode=False), torch.no_grad():
            return self.dequantized(name).to(self.weight_specs[name].dequantized_dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        state = self.__getstate__()  # type: ignore[no-untyped-call] # that of the float class, if it has one
        return _blank, (self.mixin, self.float_class, tuple(self.weight_specs)), state


def as_weight_only(
    layer: nn.Module,
    weights: Mapping[str, WeightSpec],
    stored: Mapping[str, Mapping[str, Tensor]],
    mixin: type[WeightOnly] = WeightOnly,
) -> WeightOnly:
    """A layer in place of ``layer``, of a subclass of its class.

    Args:
        layer: the float layer; its other parameters are copied; its children and buffers stand in both.
        weights: parameter → how it is stored.
        stored: parameter → its tensors, by suffix.
        mixin: `WeightOnly`, or what does better for some layers.
    """
    names = _in_order(layer, weights)
    quantized = _blank(mixin, type(layer), names)
    _take_over(quantized, layer, without=names)
    quantized.weight_specs = {name: weights[name] for name in names}
    quantized.parameter_order = tuple(layer._parameters)
    for name in names:
        quantized.store(name, stored[name])
    quantized.use_kernels(REFERENCE_ONLY)
    return quantized


def name_clash(layer: nn.Module, mixin: type[WeightOnly], weights: Iterable[str]) -> str:
    """The first name of a layer's own that its quantized form needs for something else; empty when there is none."""
    ours = {*dir(mixin), *WeightOnly.__annotations__, *mixin.own_attributes} - set(dir(nn.Module))
    tensors = {name + suffix for name in weights for suffix in ("_scale", "_zero_point")}
    return next((name for name in sorted(ours | tensors) if hasattr(layer, name)), "")


def why_no_subclass(layer: nn.Module, mixin: type[WeightOnly], weights: Container[str]) -> str:
    """Why its class cannot have the subclass that its quantized form is of; empty when it can."""
    try:
        _class_of(mixin, type(layer), _in_order(layer, weights))
    except Exception as error:  # noqa: BLE001 - a class of the user's can refuse subclasses in any way
        return f"{type(layer).__qualname__} cannot have a subclass ({type(error).__name__}: {error})"
    return ""


def _in_order(layer: nn.Module, weights: Container[str]) -> tuple[str, ...]:
    """Their names in the layer's order: that of a file is another."""
    return tuple(name for name in layer._parameters if name in weights)


def _take_over(blank: nn.Module, layer: nn.Module, without: Container[str]) -> None:
    """What belongs to a layer but some of its tensors; parameters are copied, everything else is shared."""
    for name, value in vars(layer).items():
        if name not in _DERIVED:
            vars(blank)[name] = copy.copy(value) if name in _TABLES else value
    for table in ("_parameters", "_buffers"):
        vars(blank)[table] = {name: tensor for name, tensor in vars(layer)[table].items() if name not in without}
    vars(blank)["_parameters"] = copy.deepcopy(vars(blank)["_parameters"])


def _blank(mixin: type[WeightOnly], base: type[nn.Module], names: tuple[str, ...]) -> WeightOnly:
    """An object of the class, empty: how each of them begins, copies and unpickled ones too."""
    cls = _class_of(mixin, base, names)
    blank = cls.__new__(cls)
    if issubclass(base, nn.RNNBase):
        vars(blank)["_flat_weight_refs"] = []  # which it takes out of its state without asking whether it is there
    return blank


_CLASSES: dict[tuple[type[WeightOnly], type[nn.Module], tuple[str, ...]], type[WeightOnly]] = {}


def _class_of(mixin: type[WeightOnly], base: type[nn.Module], names: tuple[str, ...]) -> type[WeightOnly]:
    """The subclass of ``base`` in which the parameters of these names are read from codes."""
    key = (mixin, base, names)
    if key not in _CLASSES:
        _CLASSES[key] = new_class(
            f"Quantized{base.__name__}", (mixin, base), exec_body=lambda ns: ns.update(_namespace(*key))
        )
    return _CLASSES[key]


def _namespace(mixin: type[WeightOnly], base: type[nn.Module], names: tuple[str, ...]) -> dict[str, Any]:
    """What that class adds."""
    namespace: dict[str, Any] = {name: property(partial(WeightOnly.read, name=name)) for name in names}
    if issubclass(base, nn.RNNBase):
        namespace |= {"_flat_weights": property(_flat_weights, _ignore), "__setattr__": _set}
        namespace |= dict.fromkeys(("_init_flat_weights", "_update_flat_weights"), _ignore)
        if base.__setstate__ is nn.RNNBase.__setstate__:  # it reads all weights too
            namespace["__setstate__"] = nn.Module.__setstate__
    namespace |= {"mixin": mixin, "float_class": base, "__module__": base.__module__}
    namespace["__doc__"] = f"`{base.__qualname__}` with weights that are stored as codes."
    return namespace


def _flat_weights(layer: nn.RNNBase) -> list[Tensor | None]:
    """What a recurrent layer hands to its kernel."""
    return [getattr(layer, name, None) for name in layer._flat_weights_names]


def _set(layer: WeightOnly, name: str, value: Any) -> None:  # noqa: ANN401 - torch's own
    """Not as a recurrent layer does it, which reads all its weights."""
    layer.refuse_float(name, value)
    nn.Module.__setattr__(layer, name, value)


def _ignore(layer: nn.RNNBase, *weights: object) -> None:
    """A recurrent layer keeps a list of its weights up to date; here the list is made when it is read."""
