"""What a ``quantization_config`` says, as far as mono_quant has it; anything else is refused by name."""

from collections.abc import Mapping
from typing import Any

import attrs
from mono_quant.errors import ArtifactError

__all__ = ["Arguments", "Scheme", "schemes_in"]

_FORMATS = ("int-quantized", "pack-quantized", "float-quantized", "naive-quantized", "mixed-precision", "dense")
_BITS = range(2, 9)
_BYTE = 8
_WEIGHTS = ("tensor", "channel", "group")
_ADVICE = 'to leave its inputs in float, choose the option inputs="float" of this format'


@attrs.frozen(kw_only=True)
class Arguments:
    """How tensors are quantized.

    Args:
        bits: of a code.
        is_float: whether codes are floats themselves.
        symmetric: whether there are no zero points.
        strategy: what shares a scale: ``"tensor"``, ``"channel"``, ``"group"``, ``"token"``.
        group_size: of groups; 0 for others.
        is_dynamic: whether each tensor has a range of its own.
    """

    bits: int
    is_float: bool
    symmetric: bool
    strategy: str
    group_size: int
    is_dynamic: bool


@attrs.frozen(kw_only=True)
class Scheme:
    """How layers are quantized: their weights, and their inputs, which may stay float (None)."""

    weights: Arguments
    inputs: Arguments | None


def schemes_in(quantization: Mapping[str, Any], *, float_inputs: bool = False) -> list[tuple[tuple[str, ...], Scheme]]:
    """Targets and scheme of each config group, in order.

    Args:
        quantization: what ``config.json`` says.
        float_inputs: whether inputs stay float where mono_quant cannot quantize them so.

    Raises:
        ArtifactError: naming what mono_quant has not, or what is not as the layout says.
    """
    for key in ("kv_cache_scheme", "transform_config", "sparsity_config"):
        said = quantization.get(key)
        if said and not (isinstance(said, dict) and said.get("format") == "dense"):
            raise ArtifactError(f"the folder is quantized with a {key}, which mono_quant has not")
    if (status := quantization.get("quantization_status", "compressed")) != "compressed":
        raise ArtifactError(f"the quantization_status of the folder is {status!r}, and only 'compressed' is read")
    default = _format(quantization.get("format"))
    groups = quantization.get("config_groups")
    if not isinstance(groups, dict) or not groups:
        raise ArtifactError("the quantization_config has no config_groups")
    return [_group(name, group, default, float_inputs=float_inputs) for name, group in groups.items()]


def _group(name: str, group: object, default: str, *, float_inputs: bool) -> tuple[tuple[str, ...], Scheme]:
    if not isinstance(group, dict):
        raise ArtifactError(f"config group {name!r} is a preset's name with targets: only groups in full are read")
    targets = group.get("targets")
    if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
        raise ArtifactError(f"config group {name!r} has no list of targets")
    try:
        return tuple(targets), _scheme(group, default, float_inputs=float_inputs)
    except ArtifactError as error:
        raise ArtifactError(f"config group {name!r}: {error}") from error


def _scheme(group: Mapping[str, Any], default: str, *, float_inputs: bool) -> Scheme:
    form = _format(group.get("format") or default)
    if group.get("output_activations"):
        raise ArtifactError("it quantizes outputs, which mono_quant does not")
    weights = _arguments(group.get("weights"), "weights")
    if weights is None:
        raise ArtifactError("it does not quantize weights, and mono_quant quantizes inputs only beside them")
    _refuse_weights(weights)
    inputs = _arguments(group.get("input_activations"), "input_activations")
    why_not = "" if inputs is None else _why_no_inputs(inputs) or _why_not_beside(weights, form)
    if why_not and not float_inputs:
        raise ArtifactError(f"mono_quant does not quantize inputs {why_not}; {_ADVICE}")
    return Scheme(weights=weights, inputs=None if why_not else inputs)


def _format(name: object) -> str:
    if name is None:
        return "dense"
    if not isinstance(name, str) or name not in _FORMATS:
        raise ArtifactError(f"the format {name!r} is none that is read; there are {', '.join(_FORMATS)}")
    return name


def _refuse_weights(weights: Arguments) -> None:
    if weights.is_float and (weights.bits != _BYTE or not weights.symmetric):
        raise ArtifactError(f"mono_quant has no float weights of {weights.bits} bits, symmetric={weights.symmetric}")
    if weights.bits not in _BITS:
        raise ArtifactError(f"mono_quant has weights of 2 to 8 bits, not of {weights.bits}")
    if weights.strategy not in _WEIGHTS:
        raise ArtifactError(f"mono_quant has weights by {', '.join(_WEIGHTS)}, not by {weights.strategy}")
    if weights.is_dynamic:
        raise ArtifactError("its weights are dynamic")


def _why_no_inputs(inputs: Arguments) -> str:
    """Why inputs cannot be quantized so, as the end of a sentence; empty when they can."""
    if inputs.is_float or inputs.bits != _BYTE:
        return f"as {'float' if inputs.is_float else 'int'}{inputs.bits}"
    if inputs.is_dynamic and (inputs.strategy, inputs.symmetric) not in {("token", True), ("tensor", False)}:
        return f"by {inputs.strategy}, {'' if inputs.symmetric else 'a'}symmetric, when the model runs"
    if not inputs.is_dynamic and inputs.strategy != "tensor":
        return f"by {inputs.strategy}"
    return ""


def _why_not_beside(weights: Arguments, form: str) -> str:
    """Why not beside such weights: theirs are int8 codes by channel."""
    if weights.is_float:
        return "beside float weights"
    if weights.strategy == "group" or not weights.symmetric:
        return f"beside weights that are {'' if weights.symmetric else 'a'}symmetric by {weights.strategy}"
    if form == "pack-quantized" and weights.bits != _BYTE:
        return f"beside packed weights of {weights.bits} bits"
    return ""


def _arguments(said: object, what: str) -> Arguments | None:
    if said is None:
        return None
    if not isinstance(said, dict):
        raise ArtifactError(f"its {what} are no JSON object")
    bits, kind, symmetric = said.get("num_bits", 8), said.get("type", "int"), said.get("symmetric", True)
    size, dynamic = said.get("group_size"), said.get("dynamic", False)
    strategy = said.get("strategy") or ("tensor" if size is None else "channel" if size == -1 else "group")
    if (
        type(bits) is not int
        or kind not in ("int", "float")
        or type(symmetric) is not bool
        or type(dynamic) is not bool
        or not isinstance(strategy, str)
        or (strategy == "group" and (type(size) is not int or size < 1))
    ):
        raise ArtifactError(f"its {what} are of a kind that mono_quant has not: {said}")
    if said.get("actorder") in ("group", "dynamic", True):
        raise ArtifactError("its columns are ordered by groups (actorder), which mono_quant has not")
    return Arguments(
        bits=bits,
        is_float=kind == "float",
        symmetric=symmetric,
        strategy=strategy,
        group_size=size if type(size) is int and strategy == "group" else 0,
        is_dynamic=dynamic,
    )
