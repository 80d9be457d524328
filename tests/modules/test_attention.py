"""Quantized ``nn.MultiheadAttention``: every option of it, against torch's own function in float64."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import torch
from fake_attention import Shapes, assert_right, attention, inputs, quantized
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

KERNEL = pytest.mark.parametrize("kernel", ["reference", "fbgemm", "onednn", "auto"])
ACTIVATIONS = pytest.mark.parametrize("activations", ["per-tensor", "per-token"])


@attrs.frozen(kw_only=True)
class Case:
    """Options of a layer, shapes of its inputs, which of these are one tensor, and what is asked of it."""

    layer: dict[str, Any]
    shapes: Shapes
    kind: str
    masks: str
    has_padding: bool
    attn_mask: str
    need_weights: bool
    average_attn_weights: bool

    def call(self) -> dict[str, Any]:
        """The options of a call, with random masks."""
        shapes, heads = self.shapes, self.layer["num_heads"]
        options: dict[str, Any] = {
            "need_weights": self.need_weights, "average_attn_weights": self.average_attn_weights,
        }  # fmt: skip
        if self.has_padding:
            options["key_padding_mask"] = mask(self.masks, *(() if shapes.n is None else (shapes.n,)), shapes.s)
        if self.attn_mask == "2-D":
            options["attn_mask"] = mask(self.masks, shapes.l, shapes.s)
        elif self.attn_mask == "3-D":
            options["attn_mask"] = mask(self.masks, heads * (shapes.n or 1), shapes.l, shapes.s)
        elif self.attn_mask == "causal":
            hidden = torch.ones(shapes.l, shapes.s, dtype=torch.bool).triu(1)
            options["attn_mask"] = hidden if self.masks == "bool" else as_float(hidden)
            options["is_causal"] = True
        return options


@st.composite
def cases(draw: st.DrawFn) -> Case:
    heads, kind = draw(st.integers(1, 3)), draw(st.sampled_from(["self", "memory", "three"]))
    sizes = st.sampled_from([None, 3, 7]) if kind == "three" else st.none()
    length = draw(st.integers(1, 6))
    return Case(
        layer={
            "embed_dim": heads * draw(st.integers(1, 4)),
            "num_heads": heads,
            "bias": draw(st.booleans()),
            "batch_first": draw(st.booleans()),
            "kdim": draw(sizes),
            "vdim": draw(sizes),
        },
        shapes=Shapes(
            n=draw(st.sampled_from([None, 1, 3])), l=length, s=length if kind == "self" else draw(st.integers(1, 6))
        ),
        kind=kind,
        masks=draw(st.sampled_from(["bool", "float"])),
        has_padding=draw(st.booleans()),
        attn_mask=draw(st.sampled_from(["none", "2-D", "3-D", "causal"])),
        need_weights=draw(st.booleans()),
        average_attn_weights=draw(st.booleans()),
    )


def as_float(hidden: Tensor) -> Tensor:
    return torch.zeros(hidden.shape).masked_fill(hidden, -math.inf)


def mask(kind: str, *shape: int) -> Tensor:
    """Random; some queries have no key that is open to them."""
    hidden = torch.rand(shape) < 0.4
    return hidden if kind == "bool" else as_float(hidden) + torch.randn(shape)


def self_attention(kernel: str = "auto", **options: object) -> tuple[Any, Any, tuple[Tensor, ...]]:
    """A float layer, its quantized form, which ran already and so has packed its weights, and its inputs."""
    torch.manual_seed(0)
    layer = attention(**options)
    module = quantized(layer, kernel=kernel)
    qkv = inputs(layer, Shapes(), "self")
    module(*qkv)
    return layer, module, qkv


@given(cases(), st.sampled_from(["reference", "fbgemm", "onednn"]), st.booleans(), st.integers(0, 2**20))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_it_gives_what_torchs_function_gives_on_fake_quantized_projections(
    case: Case,
    kernel: str,
    is_whole: bool,  # noqa: FBT001
    seed: int,
):
    torch.manual_seed(seed)
    layer = attention(**case.layer)
    module = quantized(layer, kernel=kernel, is_whole=is_whole)
    assert_right(module, layer, inputs(layer, case.shapes, case.kind), **case.call())


@given(cases(), st.sampled_from(["reference", "fbgemm", "onednn"]), st.integers(0, 2**20))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_so_it_does_where_each_row_has_a_range_of_its_own(case: Case, kernel: str, seed: int):
    torch.manual_seed(seed)
    layer = attention(**case.layer)
    module = quantized(layer, kernel=kernel, activations="per-token")
    assert_right(module, layer, inputs(layer, case.shapes, case.kind, per_token=True), **case.call())


@KERNEL
@ACTIVATIONS
@pytest.mark.parametrize("need_weights", [True, False])
def test_larger_layers_are_right_too(kernel: str, activations: str, *, need_weights: bool):
    layer = attention(96, 6, batch_first=True)
    module = quantized(layer, kernel=kernel, activations=activations)
    for kind in ("self", "memory", "three", "self"):
        qkv = inputs(layer, Shapes(n=2, l=33, s=33), kind, per_token=activations == "per-token")
        assert_right(module, layer, qkv, need_weights=need_weights)


def test_one_tensor_or_three_equal_ones_give_the_same_bits():
    layer, module, (x, _, _) = self_attention("reference")
    outputs = [module(*qkv)[0] for qkv in ((x, x, x), (x.clone(), x, x), (x, x.clone(), x.clone()))]
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])
    del layer


@pytest.mark.parametrize("batch_first", [True, False])
def test_an_input_without_a_batch_is_a_batch_of_one(*, batch_first: bool):
    layer = attention(batch_first=batch_first)
    module = quantized(layer, kernel="reference")
    x = inputs(layer, Shapes(n=None), "self")[0]
    alone, weights = module(x, x, x)
    batch = x[None] if batch_first else x[:, None]
    together, all_weights = module(batch, batch, batch)
    assert torch.equal(alone, together.reshape(alone.shape))
    assert torch.equal(weights, all_weights[0])


@KERNEL
def test_queries_that_no_key_is_open_to_give_nan_and_leave_the_others_alone(kernel: str):
    layer, module, qkv = self_attention(kernel, batch_first=True)
    padding = torch.tensor([[True] * 5, [False] * 4 + [True]])
    output, weights = module(*qkv, key_padding_mask=padding)
    assert bool(output[0].isnan().all() & weights[0].isnan().all())
    assert bool(torch.isfinite(output[1]).all())
    assert_right(module, layer, qkv, key_padding_mask=padding)


def test_without_weights_such_queries_attend_to_nothing_as_in_torchs_slow_path():
    layer, module, qkv = self_attention("reference", batch_first=True)
    padding = torch.tensor([[True] * 5, [False] * 5])
    output, _ = module(*qkv, key_padding_mask=padding, need_weights=False)
    float_output, _ = layer(*qkv, key_padding_mask=padding, need_weights=False)  # with gradients: the slow path
    assert torch.equal(float_output[0], layer.out_proj.bias.expand(5, -1))
    nothing = module.out_proj(torch.cat([torch.zeros(1, 5, 8), torch.ones(1, 5, 8)]))[0]
    assert torch.equal(output[0], nothing)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("empty", ["batch", "queries", "keys"])
def test_empty_inputs_give_empty_results_or_nothing_attended_to(empty: str, *, need_weights: bool):
    layer = attention(batch_first=True)
    module = quantized(layer)
    sizes = {"batch": (0, 3, 4), "queries": (2, 0, 4), "keys": (2, 3, 0)}[empty]
    query, key = torch.ones(sizes[0], sizes[1], 8), torch.ones(sizes[0], sizes[2], 8)
    with torch.no_grad():
        expected, actual = (m(query, key, key, need_weights=need_weights) for m in (layer, module))
    assert actual[0].shape == expected[0].shape
    assert bool(torch.isfinite(actual[0]).all())
    if need_weights:
        assert actual[1].shape == expected[1].shape


@pytest.mark.parametrize("need_weights", [True, False])
def test_in_training_mode_it_drops_the_weights_that_torch_drops(*, need_weights: bool):
    layer, module, qkv = self_attention(dropout=0.5, batch_first=True)
    outputs = []
    for one in (layer, module):
        one.train()
        torch.manual_seed(1)
        outputs.append([None if x is None else x.detach() for x in one(*qkv, need_weights=need_weights)])
        one.eval()
    kept = module(*qkv, need_weights=need_weights)[0]
    noise = (outputs[0][0] - outputs[1][0]).square().sum() / outputs[0][0].square().sum()
    assert float(noise) < 1e-3
    assert float((outputs[0][0] - kept).square().sum() / kept.square().sum()) > 1e-2
    if need_weights:
        assert torch.equal(outputs[0][1] == 0, outputs[1][1] == 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("need_weights", [True, False])
def test_the_output_has_the_dtype_of_the_query(dtype: torch.dtype, *, need_weights: bool):
    _, module, (x, _, _) = self_attention()
    expected, weights = module(x, x, x, need_weights=need_weights)
    x = x.to(dtype)
    output, narrow_weights = module(x, x, x, need_weights=need_weights, attn_mask=torch.zeros(5, 5, dtype=torch.bool))
    assert output.dtype == dtype
    assert float((output.double() - expected).abs().max()) < 0.1
    if need_weights:
        assert narrow_weights.dtype == dtype
        assert float((narrow_weights.double() - weights).abs().max()) < 0.02


def test_no_gradient_passes_it():
    _, module, (x, _, _) = self_attention()
    x = x.clone().requires_grad_()
    output, weights = module(x, x, x)
    assert not output.requires_grad
    assert not weights.requires_grad


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ({"is_causal": True}, RuntimeError, "is_causal is a hint about attn_mask"),
        ({"attn_mask": torch.zeros(5, 4)}, RuntimeError, r"attn_mask of shape \(5, 5\) or \(4, 5, 5\), got \(5, 4\)"),
        ({"attn_mask": torch.zeros(2, 5, 5)}, RuntimeError, r"attn_mask of shape .* got \(2, 5, 5\)"),
        ({"key_padding_mask": torch.zeros(5, 2)}, RuntimeError, r"key_padding_mask of shape \(2, 5\), got \(5, 2\)"),
        ({"key_padding_mask": torch.zeros(2, 5, dtype=torch.int)}, TypeError, "bool or float, got torch.int32"),
    ],
)
def test_masks_that_do_not_fit_are_errors_that_say_what_does(
    call: dict[str, Any], error: type[Exception], message: str
):
    _, module, qkv = self_attention(batch_first=True)
    with pytest.raises(error, match=message):
        module(*qkv, **call)


@pytest.mark.parametrize(
    "shapes",
    [
        [(2, 5, 7), (2, 5, 8), (2, 5, 8)],
        [(2, 5, 8), (3, 5, 8), (3, 5, 8)],
        [(2, 5, 8), (2, 5, 8), (2, 4, 8)],
        [(5, 8), (2, 5, 8), (2, 5, 8)],
        [(8,), (8,), (8,)],
        [(1, 2, 5, 8)] * 3,
    ],
)
def test_inputs_that_do_not_fit_are_errors_that_show_their_shapes(shapes: list[tuple[int, ...]]):
    _, module, _ = self_attention(batch_first=True)
    with pytest.raises(RuntimeError, match=r"of shapes \(N, L, 8\), \(N, L, 8\), \(N, L, 8\) or without N, got \("):
        module(*map(torch.ones, shapes))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused():
    _, module, _ = self_attention(batch_first=True)
    x = torch.nested.nested_tensor([torch.ones(2, 8), torch.ones(3, 8)])
    with pytest.raises(RuntimeError, match="give a padded tensor and key_padding_mask"):
        module(x, x, x)


def test_integers_are_refused():
    _, module, _ = self_attention()
    x = torch.ones(5, 2, 8, dtype=torch.int)
    with pytest.raises(TypeError, match="expected a float input"):
        module(x, x, x)


@pytest.mark.parametrize("trace", ["compile", "export", "jit"])
@ACTIVATIONS
def test_traced_it_does_the_same_arithmetic(trace: str, activations: str):
    layer = attention(batch_first=True)
    module = quantized(layer, activations=activations)
    x, key, value = inputs(layer, Shapes(), "three", per_token=activations == "per-token")
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = module

        def forward(self, x: Tensor, key: Tensor, value: Tensor, padding: Tensor) -> tuple[Tensor, ...]:
            alone, weights = self.attention(x, x, x, padding)
            return alone, weights, self.attention(x, key, value, need_weights=False)[0]

    model = Model()
    expected = model(x, key, value, padding)
    traced: Callable[..., tuple[Tensor, ...]]
    if trace == "compile":
        traced = torch.compile(model, backend="eager", fullgraph=True)
    elif trace == "export":
        traced = torch.export.export(model, (x, key, value, padding)).module()
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch.jit, which some versions of torch deprecate
            traced = torch.jit.trace(model, (x, key, value, padding))
    for one, other in zip(traced(x, key, value, padding), expected, strict=True):
        assert float((one - other).abs().max()) < 0.02  # a code of the context may be another
