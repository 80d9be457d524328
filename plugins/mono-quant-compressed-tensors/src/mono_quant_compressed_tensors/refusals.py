"""Which layers the layout has no place for, from their plans alone, and what to do with each."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Literal

from mono_quant.core.granularity import PerGroup
from mono_quant.plugin_api import LayerPlan, WeightSpec

from mono_quant_compressed_tensors.fused import torn_sets
from mono_quant_compressed_tensors.groups import format_of, grouped, has_packed_zero_points, scheme_of

__all__ = ["Reader", "refused"]

Reader = Literal["transformers", "vllm"]

_KEEP = "keep it in float"
_MATRIX = 2
_EMBEDDINGS = ("Embedding", "EmbeddingBag")
_LIKE_AN_EMBEDDING = re.compile(r".*embed[^.]*|(.*\.)?(wte|wpe|shared)")
"""What embeddings are called, where a checkpoint does not tell the class of a layer."""
_VLLM_BITS = (4, 8)
_VLLM_GROUPS = (32, 64, 128)


def refused(
    layers: Mapping[str, LayerPlan], readers: tuple[Reader, ...], floats: Collection[str] = ()
) -> dict[str, str]:
    """Name of a layer → why it is refused, and what could be done.

    Args:
        layers: quantized layers by name.
        readers: what must be able to read them, beside the library compressed-tensors itself.
        floats: names of layers that stay in float, as far as they are known.
    """
    scaled = {name: plan for name, plan in layers.items() if format_of(plan) != "dense"}
    found = {name: why for name, plan in scaled.items() if (why := next(_reasons(name, plan, readers), ""))}
    stored = {name: plan for name, plan in scaled.items() if name not in found}
    floats = {*floats, *(layers.keys() - scaled.keys())}  # readers take float16 for float
    found |= torn_sets({name: scheme_of(plan) for name, plan in stored.items()}, floats)
    return found | (_mixed_zero_points(stored) if "transformers" in readers else {})


def _reasons(name: str, plan: LayerPlan, readers: tuple[Reader, ...]) -> Iterator[str]:
    kind = plan.layer_type or "the layer"
    if not name:
        yield f"the model itself is {kind}, and only layers in a model have names there: put it into a module"
    if set(plan.weights) != {"weight"}:
        yield f"{kind} has the quantized parameters {', '.join(plan.weights)}, and only a 'weight' has a place: {_KEEP}"
        return
    spec = plan.weights["weight"]
    if plan.layer_type in _EMBEDDINGS or (not plan.layer_type and _LIKE_AN_EMBEDDING.fullmatch(name)):
        yield f"it is an embedding{'' if plan.layer_type else ' by its name'}, and readers run none quantized: {_KEEP}"
    if len(spec.shape) != _MATRIX:
        yield f"the weight of {kind} is {list(spec.shape)}, and only that of a Linear, a matrix, has a place: {_KEEP}"
        return
    if plan.layer_type == "SmoothedLinear":
        yield (
            "an algorithm multiplies its input by a factor, which readers do not know: give that algorithm the option "
            f"insert=False, or {_KEEP}"
        )
    if spec.axis % _MATRIX:
        yield f"its scales run along axis {spec.axis}, and have a place along axis 0 alone: {_KEEP}"
    if isinstance(spec.granularity, PerGroup) and spec.per_channel % spec.group_size:
        yield (
            f"its {spec.per_channel} columns are no multiple of the group size {spec.group_size}: choose another "
            f'group_size or misfit="adjust", or {_KEEP}'
        )
    if "vllm" in readers:
        yield from _not_for_vllm(plan, spec)


def _not_for_vllm(plan: LayerPlan, spec: WeightSpec) -> Iterator[str]:
    scheme = scheme_of(plan)
    strategy, inputs = scheme["weights"]["strategy"], scheme["input_activations"]
    if inputs is not None and inputs["dynamic"] and inputs["strategy"] != "token":
        yield 'vLLM finds ranges of inputs by token alone: choose int8-dynamic with activations="per-token"'
    has_such_groups = strategy == "channel" or (strategy == "group" and spec.group_size in _VLLM_GROUPS)
    if scheme["format"] == "pack-quantized" and not (spec.dtype.bits in _VLLM_BITS and has_such_groups):
        yield (
            f"vLLM reads integers of 4 and 8 bits, per channel or in groups of 32, 64 or 128, and not {spec}: choose "
            "int4-weight-only or int8-weight-only with such groups"
        )
    if scheme["format"] == "naive-quantized" and strategy == "group":
        yield 'vLLM reads float8 weights per tensor and per channel alone: choose granularity="per-channel"'


def _mixed_zero_points(layers: Mapping[str, LayerPlan]) -> dict[str, str]:
    """Transformers reads packed zero points only when it decodes the weights by one scheme while it loads them."""
    if len(grouped(layers)) <= 1:
        return {}
    why = (
        "transformers reads asymmetric weights only where all layers have one scheme: give it symmetric weights, or "
        'ask for readers=("vllm",) alone'
    )
    return {name: why for name, plan in layers.items() if has_packed_zero_points(plan)}
