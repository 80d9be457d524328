"""What the plugin API gives its authors besides interfaces, and that it is enough for them."""

import ast
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mono_quant import Batch, Quantizer
from mono_quant.core.affine import quantize
from mono_quant.core.qtypes import UINT8
from mono_quant.errors import CalibrationError
from mono_quant.plugin_api import (
    QuantizedLayer,
    QuantizedOp,
    ValidationContext,
    ValidationFinding,
    Validator,
    ValidatorSpec,
    hookimpl,
    sqnr_db,
    sum_sqnr_db,
)
from mono_quant.testing.models import batches, small_net

REPOSITORY = Path(__file__).parent.parent
PUBLIC = {"mono_quant.runtimes", "mono_quant", "mono_quant.errors", "mono_quant.plugin_api", "mono_quant.testing"}
BY_INNER_MODULES = {"scheme.py.txt"}
"""A scheme builds layers, and how-to says that those may change."""


class Remembers(Validator):
    seen: ValidationContext

    def validate(self, context: ValidationContext) -> Sequence[ValidationFinding]:
        Remembers.seen = context
        return []


class Plugin:
    @hookimpl
    def mono_quant_validators(self) -> list[ValidatorSpec]:
        return [ValidatorSpec(name="remembers", summary="keeps the context", factory=Remembers)]


def context_of(model: nn.Module, data: list[Tensor], scheme: str = "int8-static") -> ValidationContext:
    Quantizer(scheme, validators=["remembers"], plugins=[Plugin()], show_progress=False).quantize(model, data)
    return Remembers.seen


class Careless(nn.Module):
    """Writes into its input and itself, draws random numbers, and gives nested tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> dict[str, list[Tensor]]:
        self.calls += 1
        y = self.linear(self.drop(x))
        x.zero_()
        return {"some": [y, torch.rand(2)]}


def test_running_a_model_once_gives_its_tensors_and_leaves_everything_as_it_was():
    model, x = Careless(), torch.ones(4, 3)
    context = context_of(model, [x])
    model.train()
    batch = Batch((x,))
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, other = (context.run(model, batch) for _ in range(2))
    assert [y.shape for y in one] == [(4, 2), (2,)]
    assert all(map(torch.equal, one, other))
    assert torch.equal(one[0], model.linear(x))
    assert not any(y.requires_grad for y in one)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(x, torch.ones(4, 3))
    assert (model.training, float(model.calls)) == (True, 0)


def test_running_a_model_on_a_batch_that_does_not_fit_says_so():
    context = context_of(small_net(), batches())
    with pytest.raises(CalibrationError, match="SmallNet"):
        context.run(context.original, Batch((torch.ones(3, 5),)))


def layers_of(scheme: str) -> dict[str, QuantizedLayer]:
    quantized = context_of(small_net(), batches(), scheme).quantized
    return {name: layer for name, layer in quantized.named_modules() if isinstance(layer, QuantizedLayer)}


def test_a_quantized_layer_tells_how_its_weight_and_its_input_are_stored():
    layers = layers_of("int8-static")
    assert set(layers) == {"conv", "mix", "head"}
    for layer in layers.values():
        scale, zero_point = layer.input_qparams
        assert (scale.shape, zero_point.shape, layer.input_spec.dtype) == ((), (), UINT8)
        codes, weight_scale = layer.stored("weight")[""], layer.stored("weight")["_scale"]
        by_hand = codes.double() * weight_scale.double().reshape(-1, *[1] * (codes.ndim - 1))
        torch.testing.assert_close(layer.dequantized().double(), by_hand)
        assert layer.weight_specs["weight"].shape == codes.shape


@pytest.mark.parametrize(("scheme", "has_codes"), [("int8-dynamic", True), ("int8-weight-only", False)])
def test_a_quantized_layer_without_a_fixed_input_scale_has_none(scheme: str, has_codes: bool):  # noqa: FBT001
    layers = layers_of(scheme)
    assert layers
    assert all(layer.input_qparams is None for layer in layers.values())
    assert all((layer.input_spec is not None) is has_codes for layer in layers.values())


def test_sqnr_of_several_pairs_is_that_of_all_of_them_as_one():
    x, y = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 3.0])
    assert sqnr_db(x, y) == pytest.approx(10 * math.log10(25))
    assert sum_sqnr_db([(x, y), (x, x)]) == pytest.approx(10 * math.log10(50))


@pytest.mark.parametrize("qparams", [(0.1, 7), (None, None)], ids=["static", "dynamic"])
def test_the_codes_of_an_input_are_those_that_the_formula_is_about(qparams: tuple[float | None, int | None]):
    op = QuantizedOp(
        kind="linear", weight=torch.ones(2, 3, dtype=torch.int8), weight_scale=torch.ones(2), bias=None,
        input_scale=qparams[0], input_zero_point=qparams[1],
    )  # fmt: skip
    x = torch.linspace(-1, 2, 6).reshape(2, 3)
    codes, scale, zero_point = op.input_codes(x)
    assert (scale, zero_point) == op.input_qparams(x)
    assert torch.equal(codes, quantize(x, scale, zero_point, UINT8))


@pytest.mark.parametrize(
    "path",
    [
        *(REPOSITORY / "mono_quant" / "scaffold" / "templates").glob("*.py.txt"),
        *(REPOSITORY / "plugins" / "mono-quant-report" / "src").rglob("*.py"),
        *(REPOSITORY / "plugins" / "mono-quant-spread" / "src").rglob("*.py"),
        *(REPOSITORY / "plugins" / "mono-quant-numpy" / "src").rglob("*.py"),
    ],
    ids=lambda path: path.name,
)
def test_a_plugin_needs_no_inner_module(path: Path):
    tree = ast.parse(path.read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    inner = {name for name in imported if name.partition(".")[0] == "mono_quant"} - PUBLIC
    assert not inner or path.name in BY_INNER_MODULES
