"""A quantized weight of others as one of ours: the same codes and scales, where both mean the same by them."""

from collections.abc import Mapping

import attrs
import torch
from torch import Tensor

from mono_quant.config import QuantizationConfig
from mono_quant.core.checkpoint_plan import layer_and_parameter
from mono_quant.core.granularity import Granularity, PerChannel, PerGroup, PerTensor
from mono_quant.core.packing import pack
from mono_quant.core.qtypes import QType
from mono_quant.errors import ArtifactError, ConfigurationError
from mono_quant.io.manifest import Manifest, write_manifest
from mono_quant.io.scales import is_impossible_scale
from mono_quant.plugin_api.artifact import Artifact
from mono_quant.plugin_api.plan import LayerPlan, WeightSpec
from mono_quant.version import __version__

__all__ = ["ForeignWeight", "as_artifact"]

_SCALES = (torch.float32, torch.float16, torch.bfloat16)


@attrs.frozen(kw_only=True, eq=False)
class ForeignWeight:
    """What is known of a weight: it is ``(code - zero_point) · scale``.

    Args:
        codes: of the weight's shape, channels along the first axis: int8, or the float type of ``dtype``.
        dtype: of the codes; integers of fewer bits stand in int8 here.
        scale: a float for each group, channel or tensor, as many as ``group_size`` makes them.
        zero_point: of whole numbers, as many; None where all are 0.
        group_size: neighbours in a channel that share a scale; None for the whole tensor.
        float_dtype: name of the dtype that the weight had.
    """

    codes: Tensor
    dtype: QType
    scale: Tensor
    zero_point: Tensor | None
    group_size: int | None
    float_dtype: str

    def stored(self) -> tuple[WeightSpec, dict[str, Tensor]]:
        """How we store it, and its tensors by suffix.

        Raises:
            ArtifactError: when it is not what it should be.
        """
        if self.scale.dtype not in _SCALES or is_impossible_scale(self.scale.float()):
            raise ArtifactError("its scales are not finite and positive floats")
        zero_point = self.zero_point if self.zero_point is not None and self.zero_point.any() else None
        try:
            spec = WeightSpec(
                dtype=self.dtype,
                symmetric=zero_point is None,
                granularity=self._granularity(),
                shape=tuple(self.codes.shape),
                float_dtype=self.float_dtype,
            )
        except ConfigurationError as error:
            raise ArtifactError(str(error)) from error
        parts = {"": self._codes(spec), "_scale": self.scale.float()}
        if zero_point is not None:
            if zero_point.is_floating_point() or zero_point.min() < -128 or zero_point.max() > 127:  # noqa: PLR2004 - int8
                raise ArtifactError(f"its zero points are {zero_point.dtype}, and not whole numbers of 8 bits")
            parts["_zero_point"] = zero_point
        for suffix, (_, shape) in spec.layout.items():
            if parts[suffix].numel() != torch.Size(shape).numel():
                what = suffix.removeprefix("_").replace("_", " ") or "code"
                raise ArtifactError(f"it has {parts[suffix].numel()} {what}s, where {spec} has {list(shape)}")
        tensors = {
            suffix: parts[suffix].reshape(shape).to(dtype).contiguous()
            for suffix, (dtype, shape) in spec.layout.items()
        }
        return spec, tensors

    def _granularity(self) -> Granularity:
        if self.group_size is None:
            return PerTensor()
        per_channel = self.codes[0].numel() if len(self.codes) else 0
        return PerChannel(0) if self.group_size == per_channel else PerGroup(self.group_size)

    def _codes(self, spec: WeightSpec) -> Tensor:
        wanted = self.dtype.storage if self.dtype.is_float else torch.int8
        if self.codes.dtype != wanted:
            raise ArtifactError(f"its codes are {self.codes.dtype}, not {wanted}")
        if not self.dtype.is_packed:
            return self.codes
        if self.codes.numel() and (self.codes.min() < self.dtype.qmin or self.codes.max() > self.dtype.qmax):
            raise ArtifactError(f"it has codes outside of {self.dtype.qmin} to {self.dtype.qmax}")
        return pack(self.codes.reshape(spec.channels, spec.per_channel) - self.dtype.qmin, self.dtype.bits)


def as_artifact(weights: Mapping[str, ForeignWeight], others: Mapping[str, Tensor], maker: str) -> Artifact:
    """Tensors and a manifest, as if the weights had been quantized here without their model.

    Args:
        weights: the quantized ones by name.
        others: all other tensors by name.
        maker: what made the checkpoint.

    Raises:
        ArtifactError: naming a weight that is not what it should be, or a name that is there twice.
    """
    tensors = dict(others)
    layers: dict[str, LayerPlan] = {}
    for name, weight in weights.items():
        try:
            spec, stored = weight.stored()
        except ArtifactError as error:
            raise ArtifactError(f"{name!r} cannot be read: {error}") from error
        if clash := sorted({name + suffix for suffix in stored} & set(tensors)):
            raise ArtifactError(f"{name!r} cannot be read: the checkpoint has a tensor {clash[0]!r} beside it")
        tensors.update({name + suffix: tensor for suffix, tensor in stored.items()})
        layer, parameter = layer_and_parameter(name)
        if layer in layers:
            raise ArtifactError(f"{name!r} cannot be read: its layer has another quantized weight")
        layers[layer] = LayerPlan(
            name=layer,
            layer_type="",
            scheme=_scheme(spec),
            weights={parameter: spec},
            input=None,
            quantized_bytes=spec.nbytes,
        )
    manifest = Manifest(
        config=QuantizationConfig(scheme=next(iter(layers.values())).scheme, validators=(), algorithms=()),
        layers=layers,
        kept=dict.fromkeys(others, f"{maker} left it in float"),
        rewrites=(),
        ties={},
        versions={"mono-quant": __version__, "torch": torch.__version__},
        metrics={},
        layer_sqnr_db={},
        calibration=None,
    )
    return Artifact(tensors, write_manifest(manifest))


def _scheme(spec: WeightSpec) -> str:
    """The built-in scheme whose layers run such a weight."""
    return "float8-weight-only" if spec.dtype.is_float else f"{spec.dtype.name}-weight-only"
