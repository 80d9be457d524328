"""Checkpoints of torchao's tensor subclasses, flattened into safetensors.

``torchao.prototype.safetensors`` writes the tensors of ``layer.weight`` as ``layer._weight_qdata``,
``layer._weight_scale`` and so on, and in the header, under the weight's own name, its class and attributes as JSON.
``tensor_names`` lists all weights. (https://github.com/pytorch/ao/tree/main/torchao/prototype/safetensors)
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mono_quant.core.qtypes import FLOAT8_E4M3, INT8, QType, int_type
from mono_quant.errors import ArtifactError, ConfigurationError
from mono_quant.io.foreign.reading import ForeignFormat, files_of, metadata_of, tensors_of
from mono_quant.io.foreign.weights import ForeignWeight, as_artifact
from mono_quant.plugin_api.artifact import Artifact

__all__ = ["TorchaoFormat"]

_NAMES = "tensor_names"
_PLAIN = "Tensor"
_PARTS = {"qdata", "scale", "zero_point"}
_INT8, _INTX, _FLOAT8 = "Int8Tensor", "IntxUnpackedToInt8Tensor", "Float8Tensor"
_READ = f"{_INT8}, {_INTX} and {_FLOAT8}"


class TorchaoFormat(ForeignFormat):
    """Weights that torchao quantized alone, per tensor, per channel or in groups: int8, int2 to int7, float8 e4m3."""

    def load(self, path: Path) -> Artifact:
        """Read a file, or the folder or the index of several; no class of torchao is needed.

        Raises:
            ArtifactError: when it is no such checkpoint, or a weight in it is none of ours; each is named.
        """
        files = files_of(path)
        tensors = tensors_of(files)
        weights: dict[str, ForeignWeight] = {}
        refused: list[str] = []
        for file in files:
            metadata = metadata_of(file)
            for name in _names(metadata, file):
                try:
                    found = _weight(name, _record(metadata, name), tensors)
                except ArtifactError as error:
                    refused.append(f"{name!r}: {error}")
                else:
                    weights.update({} if found is None else {name: found})
        if refused:
            raise ArtifactError("\n  ".join([f"{path} has weights of torchao that are not read:", *refused]))
        if not weights:
            raise ArtifactError(f"{path} has no weight that torchao quantized: convert it as plain tensors")
        parts = {_part(name, part) for name in weights for part in _PARTS}
        others = {name: tensor for name, tensor in tensors.items() if name not in parts}
        return as_artifact(weights, others, "torchao")


def _names(metadata: Mapping[str, str], file: Path) -> list[str]:
    names = _json(metadata.get(_NAMES, "null"))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ArtifactError(f"{file} has no list {_NAMES!r} in its header: torchao did not write it")
    return names


def _record(metadata: Mapping[str, str], name: str) -> dict[str, Any]:
    record = _json(metadata.get(name, "null"))
    if not isinstance(record, dict) or not isinstance(record.get("_type"), str):
        raise ArtifactError("the header does not say what it is")
    return record


def _weight(name: str, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ForeignWeight | None:
    """A weight as ours; None for a plain tensor.

    Raises:
        ArtifactError: when it is none of ours.
    """
    kind, said = record["_type"], record.get("_data")
    if kind == _PLAIN:
        if name not in tensors:
            raise ArtifactError("the file has no such tensor")
        return None
    if kind not in {_INT8, _INTX, _FLOAT8}:
        raise ArtifactError(
            f"it is of the class {kind}, laid out for its kernels or of another kind of scale; {_READ} are read"
        )
    parts = record.get("_tensor_data_names")
    if not isinstance(said, dict) or not isinstance(parts, list) or not {"qdata", "scale"} <= set(map(str, parts)):
        raise ArtifactError("the header does not say what it is made of")
    for key in ("act_quant_kwargs", "activation_quantization"):
        if said.get(key) is not None:
            raise ArtifactError(
                f"its layer quantizes the input too ({key}), by a rule of torchao: quantize the float model anew, with "
                "int8-dynamic or int8-static"
            )
    if others := sorted(set(parts) - _PARTS):
        raise ArtifactError(f"it has the parts {others}, of which nothing is known here")
    found = {part: tensors[_part(name, part)] for part in parts if _part(name, part) in tensors}
    if missing := sorted(set(parts) - set(found)):
        raise ArtifactError(f"the file has not its {', '.join(missing)}")
    return ForeignWeight(
        codes=found["qdata"],
        dtype=_dtype(kind, said),
        scale=found["scale"],
        zero_point=found.get("zero_point"),
        group_size=_group_size(found["qdata"].shape, said.get("block_size")),
        float_dtype=_torch_dtype(said.get("dtype")),
    )


def _dtype(kind: str, said: Mapping[str, Any]) -> QType:
    if kind == _FLOAT8:
        return FLOAT8_E4M3
    if kind == _INT8:
        return INT8
    name = _torch_dtype(said.get("target_dtype"))
    try:
        return int_type(int(name.removeprefix("int")))
    except (ValueError, ConfigurationError):
        raise ArtifactError(f"its codes are {name}; int2 to int8 are read") from None


def _group_size(shape: torch.Size, block: object) -> int | None:
    """How many neighbours of a row share a scale, by the block that shares one: ``[1, g]``, or the whole weight."""
    if block == list(shape):
        return None if shape[:1] != (1,) else shape[-1]
    if len(shape) != 2 or not isinstance(block, list) or len(block) != 2 or block[0] != 1 or type(block[1]) is not int:  # noqa: PLR2004 - a matrix
        raise ArtifactError(f"blocks of {block} of a weight {list(shape)} share a scale; parts of rows are read")
    if block[1] < 1 or shape[1] % block[1]:
        raise ArtifactError(f"blocks of {block} do not divide a weight {list(shape)}")
    return block[1]


def _torch_dtype(record: object) -> str:
    """The name of a dtype as the header has it, ``{"_type": "torch.dtype", "_data": "float32"}``."""
    name = record.get("_data") if isinstance(record, dict) and record.get("_type") == "torch.dtype" else None
    if not isinstance(name, str):
        raise ArtifactError(f"the header gives a dtype as {record!r}")
    return name


def _part(name: str, part: str) -> str:
    """``layer.weight``, ``scale`` → ``layer._weight_scale``."""
    layer, _, parameter = name.rpartition(".")
    return f"{layer}._{parameter}_{part}"


def _json(text: str) -> Any:  # noqa: ANN401
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
