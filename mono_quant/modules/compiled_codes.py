"""Codes from layer to layer inside ``torch.compile``.

The codes of a convolution's input are made by plain operations, and pass through the operator ``handed_over``, which is
in no graph that runs. When the compiler records it, writes into tensors have become functions, and what the input is
made of is on record. Where that is another layer, expected to be asked for codes alone, and at most an activation, the
layer is recorded once more, to give these codes at once; its floats are computed only if somebody uses them too.
Anywhere else the codes stay those that were made, and the compiler fuses what makes them with what comes before.
"""

from typing import Any

import torch
from torch import Tensor
from torch.fx import Node, Proxy
from torch.fx.experimental.proxy_tensor import ProxyTorchDispatchMode, track_tensor_tree

from mono_quant.core.affine import quantize
from mono_quant.core.qtypes import UINT8
from mono_quant.core.tensors import CHANNELS_LAST
from mono_quant.modules.compiled import deferred_layer, layer_codes
from mono_quant.plugin_api.activation import Activation

__all__ = ["codes_for"]

torch.library.define("mono_quant::handed_over", "(Tensor codes, Tensor x, Tensor scale, Tensor zero_point) -> Tensor")

_TENSORS = 6
"""The input and the tensors of a layer stand first among the arguments of its operators."""

_aten = torch.ops.aten
_CLAMPS = {_aten.hardtanh.default, _aten.clamp.default}
_COPIES = {_aten.clone.default, _aten.detach.default, _aten.alias.default}


def codes_for(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """The uint8 codes of a convolution's float32 input, in channels-last layout where there is one."""
    codes = quantize(x, scale, zero_point, UINT8)
    codes = codes.contiguous(memory_format=CHANNELS_LAST.get(codes.ndim, torch.contiguous_format))
    given: Tensor = torch.ops.mono_quant.handed_over(codes, x, scale, zero_point)
    return given


def _handed_over(codes: Tensor, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    del x, scale, zero_point
    return codes.clone()


def _recorded(mode: Any, func: object, types: object, args: tuple[Tensor, ...], kwargs: object) -> Tensor:  # noqa: ANN401 - torch's
    """What is recorded in its place."""
    del func, types, kwargs
    codes, tracer = args[0], mode.tracer
    x, scale, zero_point = map(tracer.unwrap_proxy, args[1:])
    layer, activation = _source(x.node) if isinstance(x, Proxy) else (None, None)
    if layer is None:
        return codes
    how = ("", []) if activation is None else (activation.name, [*activation.arguments])
    told = [Proxy(one, tracer) if isinstance(one, Node) else one for one in layer.args]
    told = [*told[:_TENSORS], scale, zero_point, *told[_TENSORS:], *how]
    proxy = tracer.create_proxy("call_function", layer_codes, tuple(told), {})
    return track_tensor_tree(torch.empty_like(codes), proxy, constant=None, tracer=tracer)


torch.library.impl("mono_quant::handed_over", "CPU", _handed_over)
torch.library.register_fake("mono_quant::handed_over", _handed_over)
torch.library.register_torch_dispatch("mono_quant::handed_over", ProxyTorchDispatchMode, _recorded)


def _source(node: Any) -> tuple[Node | None, Activation | None]:  # noqa: ANN401 - an argument, mostly a node
    """The layer whose output a tensor is, or an activation of it."""
    activation = None
    while isinstance(node, Node) and node.target is not deferred_layer:
        if node.target in _COPIES:
            node = node.args[0]
            continue
        found, node = _activated(node)
        if found is None or activation is not None:
            return None, None
        activation = found
    return (node, activation) if isinstance(node, Node) else (None, None)


def _activated(node: Node) -> tuple[Activation | None, Any]:
    """The activation that an operation is, and what of; those that the compiler takes apart are none."""
    rest: list[Any]
    x, *rest = node.args or (None,)
    if node.target is _aten.relu.default:
        return Activation("relu"), x
    if node.target is _aten.clamp_max.default and isinstance(x, Node) and x.target is _aten.clamp_min.default:
        x, *lower = x.args
        rest = [*lower, *rest]
    elif node.target not in _CLAMPS:
        return None, x
    match rest:
        case [int() | float() as low, int() | float() as high] if low <= high:
            return Activation("hardtanh", (float(low), float(high))), x
    return None, x
