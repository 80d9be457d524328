"""The numbers of a file that decide what all others mean."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from mono_quant.core.qtypes import UINT8
from mono_quant.errors import ArtifactError
from mono_quant.modules import QuantizedModule

__all__ = ["is_impossible_scale", "refuse_impossible_scales"]

_OF_INPUTS = {"input_scale", "input_zero_point"}


def refuse_impossible_scales(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Refuse what no quantizer writes and no kernel can be trusted with.

    The codes themselves are not read: a file that is mapped into memory stays unread until the model runs.

    Args:
        model: the quantized model, empty; its tensors have the dtypes that the file must have.
        state: the tensors of the file; one that is missing is looked for elsewhere.

    Raises:
        ArtifactError: naming each tensor of another dtype, scale that is not finite and positive, and zero point of an
            input that is no code.
    """
    wrong = [
        f"{name} {what}"
        for prefix, module in model.named_modules()
        if isinstance(module, QuantizedModule)
        for name, empty in _fixed(prefix, module)
        if name in state and (what := _what_is_wrong(name, state[name], empty.dtype))
    ]
    if wrong:
        raise ArtifactError(f"the file is damaged: {'; '.join(wrong)}")


def is_impossible_scale(scale: Tensor) -> bool:
    """Whether a number in it is not finite and positive."""
    return not bool((torch.isfinite(scale) & (scale > 0)).all())


def _fixed(prefix: str, module: QuantizedModule) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a layer whose dtype is a part of their meaning, by their names in the model."""
    names = {name + suffix for name, spec in module.weight_specs.items() for suffix in spec.layout}
    for name, tensor in [*module.named_buffers(recurse=False), *module.named_parameters(recurse=False)]:
        if name in names | _OF_INPUTS:
            yield f"{prefix}.{name}" if prefix else name, tensor


def _what_is_wrong(name: str, tensor: Tensor, dtype: torch.dtype) -> str:
    if tensor.dtype != dtype:
        return f"is {tensor.dtype} in the file and {dtype} in the model"
    if name.endswith("_scale") and is_impossible_scale(tensor):
        return "is not finite and positive"
    if name.endswith("input_zero_point") and not bool(((tensor >= UINT8.qmin) & (tensor <= UINT8.qmax)).all()):
        return f"is outside [{UINT8.qmin}, {UINT8.qmax}]"
    return ""
