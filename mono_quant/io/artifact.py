"""From a model to what a format stores, and back."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mono_quant.core.surgery import copy_with
from mono_quant.errors import ArtifactError
from mono_quant.io.manifest import Manifest, read_manifest, write_manifest
from mono_quant.plugin_api.algorithm import Algorithm
from mono_quant.plugin_api.artifact import Artifact
from mono_quant.plugin_api.plan import Keep, LayerPlan
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
    return Artifact(tensors, write_manifest(manifest) | {"ties": dict(ties)})


def expand_ties(artifact: Artifact) -> dict[str, Tensor]:
    """The ``state_dict`` with every name, shared tensors under all of theirs.

    Raises:
        ArtifactError: when the ties name a tensor that is not there.
    """
    state = dict(artifact.tensors)
    ties = (artifact.manifest or {}).get("ties") or {}
    if not isinstance(ties, dict):
        raise ArtifactError("the manifest's ties are not a mapping of tensor names")
    for name, stored in ties.items():
        if not isinstance(stored, str) or stored not in state:
            raise ArtifactError(f"the manifest ties {name!r} to {stored!r}, which the file has not")
        state[name] = state[stored]
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
        decision = restoring.plan(name, layer)
        if isinstance(decision, Keep):
            raise ArtifactError(
                f"layer {name!r} is quantized in the file and cannot be in the model: {decision.reason}"
            )
        changed[name] = restoring.restore(layer, plan)
    model = copy_with(skeleton, changed, without_tensors=True)
    _assign(model, expand_ties(artifact))
    setattr(model, MANIFEST_ATTRIBUTE, manifest)
    return model


def _as_parameters(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters where the model has them, and one where model and file have one under several names."""
    parameters: dict[tuple[int, int], Tensor] = {}
    return {
        name: parameters.setdefault((id(wanted[name]), id(tensor)), nn.Parameter(tensor, wanted[name].requires_grad))
        if isinstance(wanted[name], nn.Parameter)
        else tensor
        for name, tensor in state.items()
    }


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
        has_memory = tensor.layout is torch.strided and tensor.numel() and not tensor.is_meta
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
        storage = tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else 0
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
    weight, layer_type, shape = getattr(layer, "weight", None), plan.layer_type, plan.weight_shape
    actual = (type(layer).__name__, tuple(weight.shape) if isinstance(weight, Tensor) else None)
    bases = {base.__name__ for base in type(layer).__mro__}
    if layer_type not in bases or actual[1] != shape:
        raise ArtifactError(
            f"layer {name!r} is {actual[0]}{actual[1]} in the model and {layer_type}{shape} in the file"
        )
    has_bias = getattr(layer, "bias", None) is not None
    if has_bias != plan.has_bias:
        words = {True: "a bias", False: "no bias"}
        raise ArtifactError(f"layer {name!r} has {words[has_bias]} in the model and {words[plan.has_bias]} in the file")


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
