"""From a model to what a format stores, and back."""

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from mono_quant.core.surgery import copy_with
from mono_quant.core.tensors import is_plain
from mono_quant.errors import ArtifactError
from mono_quant.io.manifest import Manifest, read_manifest, write_manifest
from mono_quant.io.scales import refuse_impossible_scales
from mono_quant.modules import QuantizedModule, hand_over, leave_fast_paths
from mono_quant.plugin_api.algorithm import Algorithm
from mono_quant.plugin_api.artifact import Artifact
from mono_quant.plugin_api.plan import LayerPlan
from mono_quant.plugin_api.scheme import Scheme

__all__ = ["MANIFEST_ATTRIBUTE", "expand_ties", "restore_model", "to_artifact"]

MANIFEST_ATTRIBUTE = "mono_quant_manifest"
"""The attribute of a quantized model that tells how it was made, so that it can be saved as it stands."""


def to_artifact(model: nn.Module | Mapping[str, Tensor]) -> Artifact:
    """The tensors of a model or ``state_dict``, each shared one once, and the manifest of a quantized model.

    Raises:
        ArtifactError: when a ``state_dict`` entry is no tensor.
    """
    state = model.state_dict() if isinstance(model, nn.Module) else model
    tensors, ties = _untie(state)
    manifest: Manifest | None = getattr(model, MANIFEST_ATTRIBUTE, None)
    if manifest is None:
        return Artifact(tensors, {"ties": dict(ties)} if ties else None)
    modules = dict(model.named_modules()) if isinstance(model, nn.Module) else {}
    layers = {name: _as_it_is(plan, modules.get(name)) for name, plan in manifest.layers.items()}
    return Artifact(tensors, write_manifest(attrs.evolve(manifest, layers=layers)) | {"ties": dict(ties)})


def expand_ties(artifact: Artifact) -> dict[str, Tensor]:
    """The ``state_dict`` with every name, shared tensors under all of theirs.

    Raises:
        ArtifactError: when the manifest is not well formed, or its ties name a tensor that is not there, or that is
            there already.
    """
    manifest = artifact.manifest or {}
    ties = manifest.get("ties", {})
    if not isinstance(ties, dict):
        raise ArtifactError("the manifest's ties are not a mapping of tensor names")
    if set(manifest) - {"ties"}:
        read_manifest(manifest)
    state = dict(artifact.tensors)
    for name, stored in ties.items():
        if not isinstance(stored, str) or stored not in artifact.tensors:
            raise ArtifactError(f"the manifest ties {name!r} to {stored!r}, which the file has not")
        if name in artifact.tensors:
            raise ArtifactError(f"the manifest ties {name!r} to {stored!r}, but the file has a tensor of that name")
        state[name] = artifact.tensors[stored]
    return state


def restore_model(
    artifact: Artifact,
    skeleton: nn.Module,
    scheme: Callable[[str], Scheme],
    algorithm: Callable[[str], Algorithm],
) -> nn.Module:
    """The quantized model that an artifact holds.

    Args:
        artifact: with the manifest of a quantized model.
        skeleton: a model of the class that was quantized; its weights are not read, it may be on ``meta``, and it is
            not changed.
        scheme: gives the scheme of a registry name.
        algorithm: gives the algorithm of a registry name.

    Raises:
        ArtifactError: when the file has no manifest, or does not fit the skeleton.
    """
    if artifact.manifest is None or "layers" not in artifact.manifest:
        raise ArtifactError(
            "the file has no mono_quant manifest: it is not a quantized model, load its tensors instead"
        )
    manifest = read_manifest(artifact.manifest)
    skeleton = copy_with(skeleton, {}, without_tensors=True)  # for `restore` to make layers of, in any way it likes
    modules: dict[str, nn.Module] = dict(skeleton.named_modules(remove_duplicate=False))
    changed: dict[str, nn.Module] = {}
    for rewrite in manifest.rewrites:
        _require(modules, rewrite.layers)
        rewriting = algorithm(rewrite.algorithm)
        try:
            changed.update(rewriting.apply(rewrite, modules | changed))
        except Exception as error:  # a plugin's code, on layers that may be others than it was made for
            raise ArtifactError(
                f"{rewrite.algorithm} cannot be repeated on {', '.join(map(repr, rewrite.layers))} of the model given "
                f"({type(error).__name__}: {error}): wrong model class?"
            ) from error
    for name, plan in manifest.layers.items():
        _require(modules, (name,))
        layer = (modules | changed)[name]
        _require_fit(name, layer, plan)
        restoring = scheme(plan.scheme)
        try:
            changed[name] = restoring.restore(layer, plan)
        except Exception as error:  # a plugin's code, on a layer that may be another than it was made for
            raise ArtifactError(
                f"layer {name!r} is quantized by {plan.scheme} in the file and cannot be in the model given: {error}"
                f"{'' if plan.layer_type else _exclude(name)}"
            ) from error
    closed = [name for name, plan in manifest.layers.items() if plan.input is not None]
    model = hand_over(leave_fast_paths(copy_with(skeleton, changed), closed), manifest.layers)
    state = expand_ties(artifact)
    refuse_impossible_scales(model, state)
    _assign(model, state)
    setattr(model, MANIFEST_ATTRIBUTE, manifest)
    return model


def _exclude(name: str) -> str:
    """The advice for a layer that was taken for one of torch's, by the name and shape of its tensor."""
    return f". The file was made without the model: quantize the float checkpoint anew with exclude=[{name!r}]"


def _as_it_is(plan: LayerPlan, layer: nn.Module | None) -> LayerPlan:
    """The plan with its weights as they are stored now: ``half()`` has changed what they are made into."""
    return attrs.evolve(plan, weights=layer.weight_specs) if isinstance(layer, QuantizedModule) else plan


def _as_parameters(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters where the model has them, and one where model and file have one under several names.

    Frozen ones, as those of quantized layers are, need not be one in the model before: they cannot drift apart.
    """
    parameters: dict[tuple[int, int], Tensor] = {}

    def as_wanted(tensor: Tensor, before: Tensor) -> Tensor:
        if not isinstance(before, nn.Parameter):
            return tensor
        key = (id(before) if before.requires_grad else 0, id(tensor))
        return parameters.setdefault(key, nn.Parameter(tensor, before.requires_grad))

    return {name: as_wanted(tensor, wanted[name]) for name, tensor in state.items()}


def _untie(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Each distinct tensor under its first name, and further name → first name."""
    tensors: dict[str, Tensor] = {}
    ties: dict[str, str] = {}
    first: dict[object, str] = {}
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise ArtifactError(
                f"{name!r} of the state_dict is a {type(tensor).__name__}, not a tensor: it cannot be stored"
            )
        has_memory = is_plain(tensor) and tensor.numel()
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype) if has_memory else name
        kept = first.setdefault(place, name)
        if kept == name:
            tensors[name] = tensor
        else:
            ties[name] = kept
    return _without_overlap(tensors), ties


def _without_overlap(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A tensor that shares only a part of its memory with another gets its own."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr() if is_plain(tensor) else 0
        separate[name] = tensor.clone() if storage in seen and storage and tensor.numel() else tensor
        seen.add(storage)
    return separate


def _require(modules: Mapping[str, nn.Module], names: tuple[str, ...]) -> None:
    missing = [name for name in names if name not in modules]
    if missing:
        raise ArtifactError(
            f"the model has no layer {', '.join(map(repr, missing))}, which the file has: wrong model class?"
        )


def _require_fit(name: str, layer: nn.Module, plan: LayerPlan) -> None:
    bases = {base.__name__ for base in type(layer).__mro__}
    shapes = {weight: _shape_of(layer, weight) for weight in plan.weights}
    wanted = {weight: spec.shape for weight, spec in plan.weights.items()}
    if (plan.layer_type and plan.layer_type not in bases) or shapes != wanted:
        raise ArtifactError(
            f"layer {name!r} is {type(layer).__name__}{_shown(shapes)} in the model and "
            f"{plan.layer_type}{_shown(wanted)} in the file"
        )


def _shape_of(layer: nn.Module, weight: str) -> tuple[int, ...] | None:
    tensor = layer._parameters.get(weight)  # noqa: SLF001 - the name is of the file: no other attribute is read
    return tuple(tensor.shape) if isinstance(tensor, Tensor) else None


def _shown(shapes: Mapping[str, tuple[int, ...] | None]) -> str:
    if set(shapes) == {"weight"}:
        return str(shapes["weight"])
    return f"({', '.join(f'{name} {shape}' for name, shape in shapes.items())})"


def _assign(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Make the tensors those of the model: no copy, every name on both sides, every shape and integer dtype right."""
    wanted = model.state_dict(keep_vars=True)
    missing, unexpected = sorted(set(wanted) - set(state)), sorted(set(state) - set(wanted))
    if missing or unexpected:
        raise ArtifactError(f"the file does not fit the model: missing {missing}, unexpected {unexpected}")
    wrong = [
        f"{name} is {tensor.dtype}{list(tensor.shape)} in the file and {wanted[name].dtype}{list(wanted[name].shape)} "
        "in the model"
        for name, tensor in state.items()
        if tensor.shape != wanted[name].shape
        or tensor.is_floating_point() != wanted[name].is_floating_point()
        or (not tensor.is_floating_point() and tensor.dtype != wanted[name].dtype)
    ]
    if wrong:
        raise ArtifactError(f"the file does not fit the model: {'; '.join(wrong)}")
    model.load_state_dict(_as_parameters(state, wanted), strict=True, assign=True)
    left = [n for n, t in [*model.named_parameters(), *model.named_buffers()] if t.device == torch.device("meta")]
    if left:
        raise ArtifactError(
            f"{', '.join(left)} are not stored in the file and were empty (on 'meta') in the model given: "
            "give a model built on a real device, or a function that builds one"
        )
