"""Quantized attention, and what it must give: torch's own function, in float64, on fake-quantized projections."""

import math
from typing import Any

import attrs
import torch
from fake_quantization import KERNELS, ROUNDING
from torch import Tensor, nn
from torch.nn import functional

from mono_quant.core.granularity import PerToken
from mono_quant.core.schemes import Int8Dynamic
from mono_quant.modules import QuantizedMultiheadAttention
from mono_quant.plugin_api.plan import LayerPlan

NEAR_MIDDLE = 1e-3
"""Codes this near to the middle between two depend on how a division is rounded."""

LARGEST_MASK = 8
"""Finite numbers in masks are smaller."""


@attrs.frozen(kw_only=True)
class Shapes:
    """N sequences of L queries and S keys; None for an input without a batch."""

    n: int | None = 2
    l: int = 5  # noqa: E741 - the letter of torch's documentation
    s: int = 5


def attention(embed_dim: int = 8, num_heads: int = 2, **options: object) -> nn.MultiheadAttention:
    """With biases, which torch begins at zero."""
    layer = nn.MultiheadAttention(embed_dim, num_heads, **options)
    for bias in (layer.in_proj_bias, layer.out_proj.bias):
        if bias is not None:
            nn.init.normal_(bias)
    return layer.eval()


def quantized(
    layer: nn.MultiheadAttention, *, kernel: str = "auto", activations: str = "per-tensor", is_whole: bool = True
) -> QuantizedMultiheadAttention:
    """What the dynamic scheme makes of it; unless ``is_whole`` with its output projection in float."""
    scheme = Int8Dynamic(activations=activations)
    plan, inside = scheme.plan("layer", layer), scheme.plan("layer.out_proj", layer.out_proj)
    assert isinstance(plan, LayerPlan), plan
    assert isinstance(inside, LayerPlan), inside
    module = scheme.convert(layer, plan, {})
    assert isinstance(module, QuantizedMultiheadAttention)
    module.use_kernels(KERNELS, kernel)
    if is_whole:
        module.out_proj = scheme.convert(layer.out_proj, inside, {})
        module.out_proj.use_kernels(KERNELS, kernel)
    return module


def inputs(layer: nn.MultiheadAttention, shapes: Shapes, kind: str, *, per_token: bool = False) -> tuple[Tensor, ...]:
    """Query, key and value that are codes of their own range, so that no rounding is in doubt."""

    def made(length: int, size: int) -> Tensor:
        batch = () if shapes.n is None else (shapes.n,)
        shape = (*batch, length) if layer.batch_first or shapes.n is None else (length, *batch)
        codes = torch.randint(-127 if per_token else -100, 128, (*shape, size)).float()
        codes[..., 0] = 127
        if not per_token:
            codes.view(-1)[-1] = -128  # 255 steps from end to end
        return codes / 64

    query = made(shapes.l, layer.embed_dim)
    if kind == "self":
        return query, query, query
    key = made(shapes.s, layer.kdim)
    return (query, key, key) if kind == "memory" else (query, key, made(shapes.s, layer.vdim))


def assert_right(
    module: QuantizedMultiheadAttention, layer: nn.MultiheadAttention, qkv: tuple[Tensor, ...], **options: object
) -> None:
    """That the module gives what it must: its context to the roundings of float32, and from that its output."""
    seen: list[Tensor] = []
    handle = module.out_proj.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    with torch.no_grad():
        output, weights = module(*qkv, **options)
    handle.remove()
    context, right_weights, bound = _right(module, qkv, options)
    closed = context.isnan().any(dim=-1)
    assert output.shape == context.shape
    assert torch.equal(output.isnan().any(dim=-1), closed)
    assert torch.equal(output.isnan().all(dim=-1), closed)
    if seen:  # it is quantized: the codes of its input are those of what it really got
        assert _is_near(seen[0][~closed], context[~closed], bound)
        right, slack = _linear(module, "out_proj", seen[0], slice(None))
        slack += 4 * ROUNDING * (right.abs() + _bias(layer.out_proj))
    else:
        weight = layer.out_proj.weight.double()
        right = functional.linear(
            context, weight, None if layer.out_proj.bias is None else layer.out_proj.bias.double()
        )
        terms = functional.linear(context.abs(), weight.abs()) + _bias(layer.out_proj)
        slack = bound * weight.abs().sum(dim=1) + (layer.embed_dim + 3) * ROUNDING * terms
    assert _is_near(output[~closed], right[~closed], 1.01 * slack[~closed])
    assert (weights is None) == (right_weights is None)
    if weights is not None:
        assert weights.shape == right_weights.shape
        assert torch.equal(weights.isnan(), right_weights.isnan())
        assert _is_near(weights.nan_to_num(), right_weights.nan_to_num(), bound)


def _right(
    module: QuantizedMultiheadAttention, qkv: tuple[Tensor, ...], options: dict[str, Any]
) -> tuple[Tensor, Tensor | None, float]:
    """What attention gives before the output projection, its weights, and a bound of the error of either."""
    size = module.embed_dim
    projected = []
    for third, (part, x) in enumerate(zip("qkv", qkv, strict=True)):
        name = "in_proj" if module._qkv_same_embed_dim else f"{part}_proj"
        rows = slice(third * size, (third + 1) * size)
        right, _ = _linear(module, name, x, rows)
        projected.append(right.transpose(0, 1) if module.batch_first and x.dim() == 3 else right)
    doubled = {
        name: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for name, x in options.items()
    }
    unit = torch.eye(size, dtype=torch.float64)
    context, weights = functional.multi_head_attention_forward(
        *projected, size, module.num_heads, None, None, None, None, False, 0.0, unit, None,  # noqa: FBT003 - torch's own
        training=False, use_separate_proj_weight=True, q_proj_weight=unit, k_proj_weight=unit, v_proj_weight=unit,
        **doubled,
    )  # fmt: skip
    context = context.transpose(0, 1) if module.batch_first and context.dim() == 3 else context
    return context, weights, _bound(*projected, module.head_dim)


def _bound(q: Tensor, k: Tensor, v: Tensor, head_dim: int) -> float:
    """Of the error of a context, and of a weight.

    A score is a sum of ``D`` products of numbers that were rounded four times (Higham 2002, section 3.1); an error of
    δ in the scores moves the weights by 2δ in sum; the context is a sum of ``S`` terms; the fused function takes its
    exponential from Sleef, right to 20 units of the last place.
    """
    if not (q.numel() and k.numel()):
        return 0.0
    largest_q, largest_k, largest_v = (float(x.abs().max()) for x in (q, k, v))
    score = (head_dim + 12) * ROUNDING * largest_q * largest_k * math.sqrt(head_dim) + LARGEST_MASK * ROUNDING
    keys = k.shape[0]
    return 1.01 * (2 * score + (2 * keys + 50) * ROUNDING) * max(largest_v, 1)


def _linear(module: QuantizedMultiheadAttention, name: str, x: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
    """A projection of fake-quantized inputs, and its error: codes near the middle between two, float64 roundings."""
    inside = name == "out_proj"
    owner = module.out_proj if inside else module
    codes, scale, bias = (
        (owner.weight, owner.weight_scale, owner.bias)
        if inside
        else (getattr(module, f"{name}_weight"), getattr(module, f"{name}_weight_scale"), module.in_proj_bias)
    )
    weight = codes.double() * scale.detach().double()[:, None]
    weight = weight[rows] if name == "in_proj" else weight
    x, doubt = _fake_quantized(x, per_token=isinstance(owner.input_spec.granularity, PerToken))
    y = functional.linear(x, weight, None if bias is None else bias.detach().double()[rows])
    return y, functional.linear(doubt + ROUNDING**2 * x.abs(), weight.abs())


def _fake_quantized(x: Tensor, *, per_token: bool) -> tuple[Tensor, Tensor]:
    """In float64, and a step wherever the code is in doubt."""
    if not x.numel():
        return x.double(), x.double()
    if per_token:
        scale = (x.double().abs().amax(dim=-1, keepdim=True) / 127).float().double()
        lowest, highest = -128, 127
        zero_point = torch.zeros((), dtype=torch.float64)
    else:
        low, high = min(0.0, float(x.min())), max(0.0, float(x.max()))
        scale = torch.tensor((high - low) / 255, dtype=torch.float32).double()
        zero_point = (-low / scale).round().clamp(0, 255) if scale else torch.zeros((), dtype=torch.float64)
        lowest, highest = -zero_point, 255 - zero_point
    scale = scale.clamp(min=torch.finfo(torch.float32).tiny)
    steps = x.double() / scale
    is_doubtful = ((steps - steps.floor()) - 0.5).abs() < NEAR_MIDDLE
    return steps.round().clamp(lowest, highest) * scale, is_doubtful * scale


def _bias(layer: nn.Linear) -> Tensor | float:
    return 0.0 if layer.bias is None else layer.bias.detach().double().abs()


def _is_near(actual: Tensor, right: Tensor, bound: Tensor | float) -> bool:
    return bool(((actual.double() - right).abs() <= bound).all())
