"""Torch's fast paths for encoders read the weights of layers without calling them. Int8 codes must not be read so."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import BaseTorchFunctionMode

from mono_quant.modules.smoothed import SmoothedLinear

__all__ = ["leave_fast_paths", "return_to_fast_paths", "without_fast_paths"]

_Model = TypeVar("_Model", bound=nn.Module)

_BEFORE = "mono_quant_before"
"""The attribute of a module that holds what was switched off in it, so that it can be switched on again."""
_HOOK = "mono_quant"
"""Under a key of our own, since torch's are numbers that begin anew in the process that unpickles a model."""


@contextmanager
def without_fast_paths(model: nn.Module) -> Iterator[None]:
    """While this lasts torch's encoders call their layers, so that hooks see them, and give them no nested tensors."""
    if any(isinstance(module, nn.TransformerEncoder) for module in model.modules()):
        with BaseTorchFunctionMode():  # in any such mode torch leaves them
            yield
    else:
        yield


def leave_fast_paths(model: _Model, quantized: Iterable[str]) -> _Model:
    """The model itself, with the fast paths switched off that lead around some of its layers.

    What they did at padded positions is still done.

    Args:
        model: changed, where it has torch's encoders.
        quantized: names of the layers whose weights cannot be read as float. Those of smoothed layers are closed too:
            who reads them misses the factor.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    closed = {id(modules[name]) for name in quantized if name in modules}
    closed |= {id(module) for module in modules.values() if isinstance(module, SmoothedLinear)}
    for module in model.modules():
        if closed.isdisjoint(map(id, module.modules())):
            continue
        if isinstance(module, nn.TransformerEncoderLayer):
            _switch_off(module, "activation_relu_or_gelu", value=0)
        elif isinstance(module, nn.TransformerEncoder) and module.use_nested_tensor:
            _switch_off(module, "use_nested_tensor", value=False)
            module._forward_hooks[_HOOK] = _pad  # type: ignore[index]
            module._forward_hooks_with_kwargs[_HOOK] = True  # type: ignore[index]
    return model


def return_to_fast_paths(model: _Model) -> _Model:
    """The model itself, with them switched on again as they were."""
    for module in model.modules():
        for attribute, value in vars(module).pop(_BEFORE, {}).items():
            setattr(module, attribute, value)
            module._forward_hooks.pop(_HOOK, None)  # type: ignore[call-overload]
            module._forward_hooks_with_kwargs.pop(_HOOK, None)  # type: ignore[call-overload]
    return model


def _switch_off(module: nn.Module, attribute: str, *, value: int) -> None:
    before = getattr(module, attribute)
    if before != value:
        setattr(module, attribute, value)
        setattr(module, _BEFORE, {attribute: before})


def _pad(encoder: nn.TransformerEncoder, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
    """What an encoder that works on nested tensors gives at padded positions: zeros, and then its norm."""
    if type(encoder).forward is not nn.TransformerEncoder.forward or "forward" in vars(encoder):
        return output
    padded = _padded(encoder, *args, **kwargs)
    if padded is None:
        return output
    zeros = torch.zeros_like(output)
    return torch.where(padded[..., None], zeros if encoder.norm is None else encoder.norm(zeros), output)


def _padded(
    encoder: nn.TransformerEncoder,
    src: Tensor,
    mask: Tensor | None = None,
    src_key_padding_mask: Tensor | None = None,
    is_causal: bool | None = None,  # noqa: FBT001 - the signature of nn.TransformerEncoder
) -> Tensor | None:
    """Which positions are padded, bool ``(N, S)``, where the float encoder works on nested tensors; None where not.

    The conditions are those of ``nn.TransformerEncoder.forward``.
    """
    del is_causal
    first = encoder.layers[0]
    if (
        src_key_padding_mask is None
        or mask is not None
        or src.dim() != 3  # noqa: PLR2004 - axes
        or first.training
        or not torch.backends.mha.get_fastpath_enabled()
        or (encoder.mask_check and torch.compiler.is_compiling())
        or torch.is_autocast_enabled()
        or torch.overrides.has_torch_function((src,))
        or (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (src, *first.parameters())))
    ):
        return None
    padded = src_key_padding_mask.bool()  # torch takes any number but 0 for padding
    is_left_aligned = not encoder.mask_check or bool((padded[:, 1:] >= padded[:, :-1]).all())
    return padded if is_left_aligned else None
