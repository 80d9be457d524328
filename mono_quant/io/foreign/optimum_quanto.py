"""Checkpoints of optimum-quanto: the ``state_dict`` of a frozen model as safetensors, and a map of its layers.

A quantized ``layer.weight`` stands there as ``layer.weight._data`` and ``layer.weight._scale``, beside the buffers
``layer.input_scale`` and ``layer.output_scale``. The map is ``{"layer": {"weights": "qint8", "activations": "none"}}``:
``quanto_qmap.json`` where ``QuantizedTransformersModel`` wrote it, ``quantization_map.json`` in its documentation.
(https://github.com/huggingface/optimum-quanto#serialization)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mono_quant.core.qtypes import FLOAT8_E4M3, INT8
from mono_quant.errors import ArtifactError
from mono_quant.io.foreign.reading import ForeignFormat, files_of, tensors_of
from mono_quant.io.foreign.weights import ForeignWeight, as_artifact
from mono_quant.io.json_text import parse_object
from mono_quant.io.limits import opened
from mono_quant.plugin_api.artifact import Artifact

__all__ = ["MAPS", "OptimumQuantoFormat"]

MAPS = ("quanto_qmap.json", "quantization_map.json")
"""What the map is called, beside the safetensors files."""

_NONE = "none"
_TYPES = {"qint8": INT8, "qfloat8_e4m3fn": FLOAT8_E4M3, "qfloat8": FLOAT8_E4M3}
_BUFFERS = ("input_scale", "output_scale")


class OptimumQuantoFormat(ForeignFormat):
    """Weights that optimum-quanto quantized alone, to qint8 or qfloat8_e4m3fn, with a scale for each channel."""

    def load(self, path: Path) -> Artifact:
        """Read a file, or the folder or the index of several; the map lies beside.

        Raises:
            ArtifactError: when it is no such checkpoint, or a weight in it is none of ours; each is named.
        """
        files = files_of(path)
        layers = _map(files[0].parent)
        tensors = tensors_of(files)
        weights: dict[str, ForeignWeight] = {}
        refused: list[str] = []
        for layer, said in layers.items():
            try:
                found = _weight(layer, said, tensors)
            except ArtifactError as error:
                refused.append(f"{layer!r}: {error}")
            else:
                weights.update({} if found is None else {f"{layer}.weight": found})
        if refused:
            raise ArtifactError("\n  ".join([f"{path} has layers of optimum-quanto that are not read:", *refused]))
        if not weights:
            raise ArtifactError(f"{path} has no weight that optimum-quanto quantized: convert it as plain tensors")
        parts = {f"{name}.{part}" for name in weights for part in ("_data", "_scale")}
        parts |= {f"{layer}.{buffer}" for layer in layers for buffer in _BUFFERS}
        others = {name: tensor for name, tensor in tensors.items() if name not in parts}
        if left := [name for name in others if name.endswith("._data")]:
            raise ArtifactError(f"{path} has the codes {left[0]!r}, of which the map says nothing")
        return as_artifact(weights, others, "optimum-quanto")


def _map(folder: Path) -> dict[str, Any]:
    found = next((folder / name for name in MAPS if (folder / name).exists()), None)
    if found is None:
        raise ArtifactError(
            f"{folder} has no {' or '.join(MAPS)}: write quantization_map(model) of optimum-quanto there, as JSON"
        )
    try:
        with opened(found) as (file, size):
            return parse_object(file.read().decode(), size, str(found))
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{found} cannot be read: {error}") from error


def _weight(layer: str, said: Any, tensors: Mapping[str, Tensor]) -> ForeignWeight | None:  # noqa: ANN401 - JSON
    """A layer's weight as ours; None when it is not quantized.

    Raises:
        ArtifactError: when it is none of ours.
    """
    if not isinstance(said, dict) or not all(isinstance(said.get(key), str) for key in ("weights", "activations")):
        raise ArtifactError(f"the map says {said!r} of it")
    if said["activations"] != _NONE:
        raise ArtifactError(
            f"its activations are {said['activations']} too, by a rule of optimum-quanto: quantize the float model "
            "anew, with int8-static"
        )
    if said["weights"] == _NONE:
        return None
    if said["weights"] not in _TYPES:
        raise ArtifactError(
            f"its weights are {said['weights']}, which have other zeros or codes than ours; {', '.join(_TYPES)} are "
            "read. Dequantize it there, or quantize the float model anew"
        )
    name = f"{layer}.weight"
    codes, scale = (tensors.get(f"{name}.{part}") for part in ("_data", "_scale"))
    if codes is None or scale is None or not codes.ndim:
        raise ArtifactError(f"the file has not its {name}._data and {name}._scale: freeze(model) comes before saving")
    per_channel = codes[0].numel() if len(codes) else 0
    is_one = scale.numel() == 1 and len(codes) != 1
    if scale.numel() > 1 and len(scale) != len(codes):
        raise ArtifactError(
            f"its scales {list(scale.shape)} are not one for each row of the weight {list(codes.shape)}: quantize anew "
            "with axis=0"
        )
    return ForeignWeight(
        codes=codes,
        dtype=_TYPES[said["weights"]],
        scale=scale,
        zero_point=None,
        group_size=None if is_one else per_channel,
        float_dtype=str(scale.dtype).removeprefix("torch."),
    )
