"""What a saved file must hold, and every way in which it does not."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mono_quant.modules import QuantizedModule
from mono_quant.plugin_api import Plan

from .layers import LayerCase
from .storage import StoredTensor, header_of, input_tensors, weight_tensors
from .stored_file import StoredFile
from .variants import Variant

__all__ = ["expected_tensors", "wrong_in_file", "wrong_in_pt", "wrong_weights"]

_DTYPES = {torch.float32: "F32", torch.int64: "I64"}


def expected_tensors(
    model: nn.Module, plan: Plan, variant: Variant, cases: Sequence[LayerCase]
) -> dict[str, StoredTensor]:
    """Every tensor, by name. The plan only says which weights are quantized, and which inputs need a range."""
    axes = {case.name: case.channel_axis for case in cases}
    floats = dict(model.state_dict())
    expected: dict[str, StoredTensor] = {}
    for name, layer in plan.layers.items():
        storage, axis = variant.storage_of(name), axes[name.partition(".")[0]]
        for parameter in layer.weights:
            shape = tuple(floats.pop(f"{name}.{parameter}").shape)
            expected |= weight_tensors(f"{name}.{parameter}", shape, axis, storage)
        if layer.needs_data:
            expected |= input_tensors(f"{name}.")
    others = {name: StoredTensor("other", _DTYPES[t.dtype], tuple(t.shape)) for name, t in floats.items()}
    return expected | others


def wrong_in_file(
    file: StoredFile, expected: Mapping[str, StoredTensor], floats: Mapping[str, Tensor]
) -> Iterator[str]:
    """Against theory, and against the float model where nothing is quantized."""
    found = {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in file.entries.items()}
    right = {name: (tensor.dtype, tensor.shape) for name, tensor in expected.items()}
    for name in sorted(found.keys() | right.keys()):
        if found.get(name) != right.get(name):
            yield f"{name} is stored as {found.get(name)}, not {right.get(name)}"
        elif expected[name].part == "other" and file.tensor(name).tobytes() != _bytes(floats[name]):
            yield f"{name} is not that of the float model, bit for bit"
    header = header_of(expected, file.entries, file.metadata)
    if file.header != header:
        same = next((i for i, (a, b) in enumerate(zip(file.header, header, strict=False)) if a != b), len(header))
        found_there, right_there = (text[same : same + 60].decode(errors="replace") for text in (file.header, header))
        yield f"from byte {same} on the header is {found_there!r}, not {right_there!r}"


def wrong_in_pt(path: Path, file: StoredFile) -> Iterator[str]:
    """Of the ``.pt`` file, against the other."""
    tensors: dict[str, Tensor] = torch.load(path, weights_only=True)["tensors"]
    for name in sorted(tensors.keys() ^ file.entries.keys()):
        yield f"{name} is in one of the two files only"
    for name in sorted(tensors.keys() & file.entries.keys()):
        if _bytes(tensors[name]) != file.tensor(name).tobytes():
            yield f"{name} has other bits in the .pt file"


def wrong_weights(loaded: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[str]:
    """Of the loaded model, against the weights that the codes in the file stand for."""
    for name, weight in weights.items():
        layer, _, parameter = name.rpartition(".")
        module = loaded.get_submodule(layer)
        if not (isinstance(module, QuantizedModule) and _bytes(module.dequantized(parameter)) == _bytes(weight)):
            yield f"{name} is not loaded as what its codes stand for"


def _bytes(tensor: Tensor) -> bytes:
    content: bytes = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return content
