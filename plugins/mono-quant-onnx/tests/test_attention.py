"""Attention in the graph is that of torch, whatever is masked, and as readers look for it."""

from collections import Counter

import onnx
import onnxruntime
import pytest
import torch
from mono_quant import Batch
from mono_quant.errors import CompilationError
from mono_quant.runtimes import export_program
from torch import nn
from torch.nn import functional

from mono_quant_onnx.graph import checked_file, to_onnx

BATCH, HEADS, QUERIES, KEYS, WIDTH = 2, 4, 5, 7, 8


class Attention(nn.Module):
    def __init__(self, **told) -> None:  # noqa: ANN003
        super().__init__()
        self.told = told

    def forward(self, query, key, value, mask=None):
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, **self.told)


def inputs(heads=HEADS, value_width=WIDTH):
    generator = torch.Generator().manual_seed(0)
    shapes = [(BATCH, HEADS, QUERIES, WIDTH), (BATCH, heads, KEYS, WIDTH), (BATCH, heads, KEYS, value_width)]
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


def boolean(*, empty_row):
    mask = torch.rand(BATCH, 1, QUERIES, KEYS, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[..., 0] = True
    if empty_row:
        mask[0, 0, 2] = False
    return mask


def graph_of(model, given, folder):
    return checked_file(to_onnx(export_program(model.eval(), Batch(given))), folder)


def both(model, given, folder):
    session = onnxruntime.InferenceSession(graph_of(model, given, folder))
    names = [one.name for one in session.get_inputs()]
    (got,) = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, given, strict=True)})
    return torch.from_numpy(got), model(*given)


CASES = {
    "no mask": (Attention(), inputs()),
    "a scale": (Attention(scale=0.5), inputs()),
    "values of another width": (Attention(), inputs(value_width=3)),
    "causal, fewer queries than keys": (Attention(is_causal=True), inputs()),
    "fewer heads of keys": (Attention(enable_gqa=True), inputs(heads=2)),
    "as many heads of keys": (Attention(enable_gqa=True), inputs()),
    "three axes": (Attention(), tuple(tensor[0] for tensor in inputs())),
    "a mask of booleans": (Attention(), (*inputs(), boolean(empty_row=False))),
    "a row without any key": (Attention(), (*inputs(), boolean(empty_row=True))),
    "a mask of numbers": (Attention(), (*inputs(), torch.linspace(-3, 3, KEYS).repeat(QUERIES, 1))),
    "numbers, a row without any key": (
        Attention(),
        (*inputs(), torch.zeros(BATCH, 1, QUERIES, KEYS).masked_fill(~boolean(empty_row=True), -torch.inf)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_gives_what_torch_gives(name, tmp_path):
    got, expected = both(*CASES[name], tmp_path)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    assert got.isfinite().all()


def test_what_is_nan_stays_so(tmp_path):
    query, key, value = inputs()
    value[1, 2] = torch.nan
    got, expected = both(Attention(), (query, key, value, boolean(empty_row=True)), tmp_path)
    assert torch.equal(got.isnan(), expected.isnan())
    assert got.isnan().any()


def test_nothing_stands_between_the_products_but_what_must(tmp_path):
    graph = onnx.load(graph_of(*CASES["a row without any key"], tmp_path)).graph
    kinds = Counter(node.op_type for node in graph.node)
    assert kinds["MatMul"] == 2
    assert kinds["Transpose"] == 1
    assert "IsNaN" not in kinds
    order = [node.op_type for node in graph.node if node.op_type in {"MatMul", "Softmax", "Where", "Add"}]
    first, second = (number for number, kind in enumerate(order) if kind == "MatMul")
    assert [kind for kind in order[first:second] if kind != "Where"] == ["MatMul", "Add", "Softmax"]


def test_attention_that_drops_out_is_refused():
    with pytest.raises(CompilationError, match=r"dropout_p=0\.0"):
        to_onnx(export_program(Attention(dropout_p=0.5).eval(), Batch(inputs())))
