"""What is to become of the tensors of a checkpoint, found from names, dtypes and shapes alone."""

import math
import warnings
from collections import Counter
from collections.abc import Mapping

import attrs
import torch
from torch import Tensor, nn

from mono_quant._plugins.components import Components
from mono_quant._user_line import level_of_the_user
from mono_quant.checkpoint_selection import TensorSelection
from mono_quant.config import QuantizationConfig
from mono_quant.core.checkpoint_plan import joined, layer_and_parameter, plan_tensors
from mono_quant.errors import ConfigurationError, QuantizationWarning
from mono_quant.format_agreement import agreed_without_model
from mono_quant.io.artifact import expand_ties
from mono_quant.io.checkpoint import Checkpoint, TensorInfo
from mono_quant.io.manifest import Manifest
from mono_quant.io.stored_weights import weight_specs
from mono_quant.plugin_api import Artifact, Keep, Plan, WeightSpec

__all__ = ["PlannedCheckpoint", "plan_checkpoint", "shapes_of"]

_MB = 2**20
_NO_TENSORS = {"format", "mono_quant"}


@attrs.frozen(kw_only=True, eq=False)
class PlannedCheckpoint:
    """A plan, and the tensors before and after.

    Args:
        plan: the ledger.
        specs: name of each quantized weight → how it is stored.
        before: all names that the tensors have, and what they are.
        after: the same of the quantized checkpoint, each shared tensor once.
        ties: further name → first name, where names of the quantized checkpoint share a tensor.
    """

    plan: Plan
    specs: Mapping[str, WeightSpec]
    before: Mapping[str, TensorInfo]
    after: Mapping[str, TensorInfo]
    ties: dict[str, str]

    @property
    def original_size_mb(self) -> float:
        """MB (2^20 bytes) of all tensors before, each shared one once."""
        return sum(info.nbytes for name, info in self.before.items() if name not in self.plan.ties) / _MB

    @property
    def quantized_size_mb(self) -> float:
        """The same after."""
        return sum(info.nbytes for info in self.after.values()) / _MB

    def manifest(self, config: QuantizationConfig, versions: dict[str, str]) -> Manifest:
        """What a file with these tensors says of itself."""
        return Manifest(
            config=config,
            layers=self.plan.layers,
            kept=self.plan.kept,
            rewrites=(),
            ties=self.ties,
            versions=versions,
            metrics={
                "original_size_mb": self.original_size_mb,
                "quantized_size_mb": self.quantized_size_mb,
                "compression_ratio": self.original_size_mb / self.quantized_size_mb,
                "sqnr_db": None,
            },
            layer_sqnr_db={},
            calibration=None,
        )


def plan_checkpoint(checkpoint: Checkpoint, components: Components) -> PlannedCheckpoint:
    """Decide on each tensor.

    Args:
        checkpoint: of which names, dtypes and shapes are looked at.
        components: of the configuration, which says which layers, and how.

    Raises:
        ArtifactError: when the checkpoint's manifest does not fit its tensors.
        ConfigurationError: when it is quantized already, a pattern is of a class, or matches nothing, nothing would be
            quantized, or the format cannot hold what would be.

    Warns:
        QuantizationWarning: when algorithms are asked for, which work on layers.
    """
    _warn_of_algorithms(components)
    infos, ties = _names_of(checkpoint)
    plan = agreed_without_model(_ledger(infos, ties, components, source=checkpoint.source), components)
    specs = weight_specs(plan.layers)
    after, after_ties = _after(infos, ties, specs)
    return PlannedCheckpoint(plan=plan, specs=specs, before=infos, after=after, ties=after_ties)


def _warn_of_algorithms(components: Components) -> None:
    usual = {algorithm.name for algorithm in QuantizationConfig().algorithms}
    if asked := [one.name for one in components.config.algorithms if one.name not in usual]:
        warnings.warn(
            f"without a model no algorithm takes part, so not {', '.join(map(repr, asked))}: each weight is rounded as "
            "its scheme does. Quantize the model, with Quantizer.quantize or --model, or leave them out",
            QuantizationWarning,
            stacklevel=level_of_the_user(),
        )


def shapes_of(infos: Mapping[str, TensorInfo]) -> dict[str, Tensor]:
    """Tensors without data, for what asks for dtypes and shapes."""
    return {name: torch.empty(info.shape, dtype=info.dtype, device="meta") for name, info in infos.items()}


def _names_of(checkpoint: Checkpoint) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """All names that its tensors have, and further name → first name; a file of ours tells those in its manifest.

    Raises:
        ArtifactError: when the manifest does not fit the tensors.
        ConfigurationError: when it is that of a quantized model.
    """
    manifest = checkpoint.manifest()
    if manifest is not None and "layers" in manifest:
        raise ConfigurationError(f"{checkpoint.source} is quantized already: quantize the float weights in one run")
    named = expand_ties(Artifact(shapes_of(checkpoint.infos), manifest))
    for name, kept in checkpoint.metadata.items():  # as safetensors' save_model writes those that it leaves out
        if name not in _NO_TENSORS and name not in named and kept in named:
            named[name] = named[kept]
    infos = {name: TensorInfo.of(shape) for name, shape in named.items()}
    first = {id(shape): name for name, shape in reversed(named.items())}
    return infos, {**checkpoint.ties, **{name: first[id(t)] for name, t in named.items() if first[id(t)] != name}}


def _ledger(
    infos: Mapping[str, TensorInfo],
    ties: Mapping[str, str],
    components: Components,
    *,
    source: str,
) -> Plan:
    """The ledger, from names, dtypes and shapes alone.

    Raises:
        ConfigurationError: when a pattern is of a class, or matches nothing, or nothing would be quantized.
    """
    chosen = TensorSelection(components.config)
    weights = Counter[str]()
    for name, info in infos.items():
        weights[layer_and_parameter(name)[0]] += math.prod(info.shape) if len(info.shape) > 1 else 0
    nothing = nn.Module()

    def decide(name: str, tensor: Tensor) -> tuple[str, WeightSpec] | Keep:
        layer, _ = layer_and_parameter(name)
        if reason := chosen.why_kept(layer, weights[layer]) or _why_a_norm(layer, tensor, infos):
            return Keep(reason)
        spec = components.scheme_for(layer, nothing).plan_tensor(name, tensor)
        if isinstance(spec, Keep):
            return spec
        if clash := [name + suffix for suffix in spec.layout if suffix and name + suffix in infos]:
            return Keep(f"the checkpoint has a tensor {clash[0]!r} already")
        return components.scheme_name_for(layer, nothing), spec

    plan = plan_tensors(shapes_of(infos), ties, decide)
    if chosen.unused:
        raise ConfigurationError(f"patterns {list(chosen.unused)} match no layer of {source}")
    if not plan.layers:
        reasons = list(dict.fromkeys(plan.kept.values()))
        raise ConfigurationError(
            f"nothing of {source} would be quantized: {'; '.join(reasons[:5]) or 'it has no tensors'}"
        )
    return plan


def _why_a_norm(layer: str, tensor: Tensor, infos: Mapping[str, TensorInfo]) -> str:
    """Why a weight of several axes is taken for that of a norm; empty when it is not. Others are no weights anyway."""
    if tensor.ndim <= 1:
        return ""
    if "norm" in layer.rpartition(".")[2].lower():
        return "its layer is called a norm"
    bias = infos.get(joined(layer, "bias"))
    is_like_it = bias is not None and bias.shape == tuple(tensor.shape)
    return "its layer has a bias of the same shape, as a norm has" if is_like_it else ""


def _after(
    infos: Mapping[str, TensorInfo], ties: Mapping[str, str], specs: Mapping[str, WeightSpec]
) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """What the quantized checkpoint will hold, and which of its names share a tensor."""
    after, after_ties = {}, {}
    for name, info in infos.items():
        layout = specs[name].layout if name in specs else {"": (info.dtype, info.shape)}
        for suffix, (dtype, shape) in layout.items():
            if name in ties:
                after_ties[name + suffix] = ties[name] + suffix
            else:
                after[name + suffix] = TensorInfo(dtype, shape)
    return after, after_ties
