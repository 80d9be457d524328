"""Folders that others wrote: their tensors as ours, with a manifest that tells how layers are quantized."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import torch
from mono_quant.config import QuantizationConfig
from mono_quant.core.granularity import Granularity, PerChannel, PerGroup, PerTensor, PerToken
from mono_quant.core.qtypes import FLOAT8_E4M3, INT8, UINT8, QType, int_type
from mono_quant.errors import ArtifactError, ConfigurationError
from mono_quant.io.checkpoint import Checkpoint
from mono_quant.io.manifest import Manifest, write_manifest
from mono_quant.plugin_api import Artifact, LayerPlan, TensorSpec, WeightSpec
from torch import Tensor

from mono_quant_compressed_tensors.scheme import Scheme, schemes_in
from mono_quant_compressed_tensors.weight import decode, layout

__all__ = ["read_foreign"]

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_BYTE = 8
_MATRIX = 2
_SCALE = ".weight_scale"
_BESIDE = ("weight_g_idx", "weight_global_scale", "input_global_scale", "output_scale", "k_scale", "v_scale", "q_scale")
"""Tensors of what mono_quant has not."""


def read_foreign(
    checkpoint: Checkpoint, quantization: Mapping[str, Any], config: Mapping[str, Any], *, float_inputs: bool
) -> Artifact:
    """The artifact of a folder without a manifest of ours.

    Args:
        checkpoint: its tensors.
        quantization: what its ``config.json`` says of the quantization.
        config: all that it says.
        float_inputs: whether inputs stay float where mono_quant cannot quantize them so.

    Raises:
        ArtifactError: naming the layer and what it has that mono_quant has not, or what is not as the layout says.
    """
    schemes = schemes_in(quantization, float_inputs=float_inputs)
    dtype = _dtype_of(config)
    layers: dict[str, LayerPlan] = {}
    tensors: dict[str, Tensor] = {}
    consumed: set[str] = set()
    names, ignored = _quantized(checkpoint), quantization.get("ignore") or []
    if not isinstance(ignored, list) or not all(isinstance(entry, str) for entry in ignored):
        raise ArtifactError(f"'ignore' of its quantization is no list of names: {ignored!r}")
    for layer in names:
        scheme = _scheme_of(layer, names, schemes, ignored)
        try:
            made = _Layer(layer, scheme, checkpoint, dtype)
            tensors |= made.tensors()
        except (ArtifactError, ConfigurationError) as error:  # the latter of a spec that no weight can have
            raise ArtifactError(f"layer {layer!r}: {error}") from error
        layers[layer] = made.plan
        consumed |= made.consumed
    _refuse_missing(schemes, layers)
    for name in checkpoint:
        if name.rpartition(".")[2] in _BESIDE:
            raise ArtifactError(f"the folder has {name!r}, which belongs to a quantization that mono_quant has not")
    tensors |= {name: checkpoint.read(name) for name in checkpoint if name not in consumed}
    return Artifact(tensors, write_manifest(_manifest(layers, quantization)))


def _quantized(checkpoint: Checkpoint) -> list[str]:
    return [name.removesuffix(_SCALE) for name in checkpoint if name.endswith(_SCALE)]


def _scheme_of(
    layer: str, layers: list[str], schemes: list[tuple[tuple[str, ...], Scheme]], ignored: list[str]
) -> Scheme:
    """That of the best target: an exact name before a pattern before a class; of equals the first.

    The class of a layer is not known here: a scheme for a class is that of every layer with a scale, if it is the only
    one.
    """
    if any(layer == entry or _matches(entry, layer) for entry in ignored):
        raise ArtifactError(f"layer {layer!r} is quantized and stands in 'ignore' too")
    for is_it in (lambda target: target == layer, lambda target: _matches(target, layer)):
        found = next((scheme for targets, scheme in schemes if any(map(is_it, targets))), None)
        if found is not None:
            return found
    classes = [s for targets, s in schemes if any(t not in layers and not re.match("re:|.*[.]", t) for t in targets)]
    if len(classes) != 1:
        why = "several config groups are" if classes else "no config group is"
        raise ArtifactError(f"layer {layer!r} is quantized, and {why} for it by name or class")
    return classes[0]


def _matches(target: str, layer: str) -> bool:
    """A pattern must match the beginning of a name, as compressed-tensors has it."""
    try:
        return target.startswith("re:") and re.match(target.removeprefix("re:"), layer) is not None
    except re.error as error:
        raise ArtifactError(f"{target!r} is no regular expression: {error}") from error


def _refuse_missing(schemes: list[tuple[tuple[str, ...], Scheme]], layers: Mapping[str, LayerPlan]) -> None:
    exact = [target for targets, _ in schemes for target in targets if "." in target and not target.startswith("re:")]
    if missing := [target for target in exact if target not in layers]:
        raise ArtifactError(f"layer {missing[0]!r} is quantized by config.json, and has no scale in the files")


class _Layer:
    """One layer of the folder as ours.

    Args:
        name: of the layer.
        scheme: how it is quantized.
        checkpoint: with its tensors.
        dtype: name of the model's dtype; None where it is not said.
    """

    def __init__(self, name: str, scheme: Scheme, checkpoint: Checkpoint, dtype: str | None) -> None:
        self._prefix = f"{name}."
        self._scheme = scheme
        self._checkpoint = checkpoint
        self._is_packed = f"{name}.weight_packed" in checkpoint
        shape = self._shape()
        scale = self._checkpoint.infos[f"{name}.weight_scale"]
        if scale.dtype not in _FLOATS:
            raise ArtifactError(f"its weight_scale is {scale.dtype}")
        float_dtype = dtype or str(scale.dtype).removeprefix("torch.")
        granularity = _granularity(scheme)
        qtype = _qtype(scheme, is_packed=self._is_packed)
        self._stored = WeightSpec(
            dtype=qtype,
            symmetric=scheme.weights.symmetric,
            granularity=granularity,
            shape=shape,
            float_dtype=float_dtype,
        )
        if isinstance(granularity, PerGroup) and self._stored.per_channel % granularity.size:
            raise ArtifactError(f"its {shape[1]} columns are no multiple of the group size {granularity.size}")
        self._check_layout()
        needs_channels = scheme.inputs is not None and isinstance(granularity, PerTensor)
        self._spec = attrs.evolve(self._stored, granularity=PerChannel(0)) if needs_channels else self._stored
        self.plan = self._plan(name)

    @property
    def consumed(self) -> set[str]:
        """Names of its tensors in the folder that are not those of a float layer."""
        inputs = {f"{self._prefix}{name}" for name in ("input_scale", "input_zero_point")}
        return set(layout(f"{self._prefix}weight", self._stored, packed=self._is_packed)) | inputs

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors as ours, under their names in the model."""
        name = f"{self._prefix}weight"
        names = layout(name, self._stored, packed=self._is_packed)
        found = {made: self._checkpoint.read(made) for made in names}
        stored = decode(name, found, self._stored, packed=self._is_packed)
        if self._spec != self._stored:
            stored["_scale"] = stored["_scale"].expand(self._spec.channels).contiguous()
        tensors = {name + suffix: tensor for suffix, tensor in stored.items()}
        return tensors | (dict(self._inputs()) if self.plan.needs_data else {})

    def _inputs(self) -> Iterator[tuple[str, Tensor]]:
        scale = self._read("input_scale").float()
        symmetric = self._scheme.inputs is not None and self._scheme.inputs.symmetric
        zero_point = torch.zeros(1, dtype=torch.int32) if symmetric else self._read("input_zero_point")
        if zero_point.is_floating_point() and not torch.equal(zero_point, zero_point.round()):
            raise ArtifactError("its input_zero_point is no whole number")
        zero_point = zero_point.to(torch.int32)
        if scale.numel() != 1 or zero_point.numel() != 1:
            raise ArtifactError("its input has several scales, and mono_quant has one for the whole of it")
        yield f"{self._prefix}input_scale", scale.reshape(())
        yield f"{self._prefix}input_zero_point", zero_point.reshape(()) - INT8.qmin

    def _read(self, name: str) -> Tensor:
        return self._checkpoint.read(self._prefix + name)

    def _shape(self) -> tuple[int, ...]:
        if not self._is_packed:
            if f"{self._prefix}weight" not in self._checkpoint:
                raise ArtifactError("it has a weight_scale, and no weight or weight_packed")
            shape = self._checkpoint.infos[f"{self._prefix}weight"].shape
        else:
            shape = tuple(self._read("weight_shape").flatten().tolist())
        if len(shape) != _MATRIX or min(shape) < 1:
            raise ArtifactError(f"its weight {list(shape)} is no matrix")
        return shape

    def _check_layout(self) -> None:
        """Refuse tensors of other dtypes and shapes; scales may be of any float dtype, and ``()`` be ``(1,)``."""
        for name, (dtype, shape) in layout(f"{self._prefix}weight", self._stored, packed=self._is_packed).items():
            info = self._checkpoint.infos.get(name)
            is_scale = name.endswith("_scale")
            if info is None:
                raise ArtifactError(f"it has no {name!r}")
            has_size = math.prod(info.shape) == 1 if shape == (1,) else info.shape == shape
            if not has_size or (info.dtype not in _FLOATS if is_scale else not _is_like(info.dtype, dtype)):
                raise ArtifactError(f"{name!r} is {info}, and must be {dtype}{list(shape)}")

    def _plan(self, name: str) -> LayerPlan:
        inputs = self._input_spec()
        weights = {"weight": self._spec}
        if inputs is None:
            scheme = "float8-weight-only" if self._spec.dtype.is_float else f"{self._spec.dtype.name}-weight-only"
        else:
            scheme = "int8-dynamic" if inputs.is_dynamic else "int8-static"
        beside = 8 if inputs is not None and not inputs.is_dynamic else 0
        return LayerPlan(
            name=name,
            layer_type="" if inputs is None else "Linear",
            scheme=scheme,
            weights=weights,
            input=inputs,
            quantized_bytes=self._spec.nbytes + beside,
        )

    def _input_spec(self) -> TensorSpec | None:
        inputs = self._scheme.inputs
        if inputs is None:
            return None
        if self._spec.dtype != INT8:
            raise ArtifactError(f"its inputs are quantized and its weights packed, of {self._spec.dtype.bits} bits")
        if inputs.is_dynamic:
            return TensorSpec(
                dtype=UINT8,
                symmetric=inputs.symmetric,
                granularity=PerToken() if inputs.strategy == "token" else PerTensor(),
                is_dynamic=True,
            )
        return TensorSpec(dtype=UINT8, symmetric=False, granularity=PerTensor())


def _granularity(scheme: Scheme) -> Granularity:
    if scheme.weights.strategy == "tensor":
        return PerTensor()
    return PerGroup(scheme.weights.group_size, 0) if scheme.weights.strategy == "group" else PerChannel(0)


def _qtype(scheme: Scheme, *, is_packed: bool) -> QType:
    """Codes that are not packed have a byte each, whatever of it they use."""
    if scheme.weights.is_float:
        return FLOAT8_E4M3
    return int_type(scheme.weights.bits) if is_packed else int_type(_BYTE)


def _is_like(found: torch.dtype, wanted: torch.dtype) -> bool:
    """``weight_shape`` may be of any integer dtype."""
    return found == wanted or (wanted == torch.int64 and found in (torch.int32, torch.int64))


def _dtype_of(config: Mapping[str, Any]) -> str | None:
    """The dtype that the model has by its configuration."""
    text = config.get("text_config")
    places = [config, text if isinstance(text, dict) else {}]
    names = {str(dtype).removeprefix("torch.") for dtype in _FLOATS}
    said = [place.get(key) for place in places for key in ("dtype", "torch_dtype")]
    return next((name for name in said if isinstance(name, str) and name in names), None)


def _manifest(layers: dict[str, LayerPlan], quantization: Mapping[str, Any]) -> Manifest:
    schemes = [plan.scheme for plan in layers.values()]
    version = quantization.get("version")
    return Manifest(
        config=QuantizationConfig(scheme=schemes[0] if schemes else "int8-weight-only", algorithms=(), validators=()),
        layers=layers,
        kept={},
        rewrites=(),
        ties={},
        versions={"compressed-tensors": version} if isinstance(version, str) else {},
        metrics={},
        layer_sqnr_db={},
        calibration=None,
    )
