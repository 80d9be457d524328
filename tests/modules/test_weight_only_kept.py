"""Which layers weight-only schemes leave in float, and the reasons they give."""

import warnings
from functools import partial
from types import MethodType, ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm
from weight_only_cases import CASES, SCHEMES, Holder, assert_same, quantized, twin

import mono_quant.modules
from mono_quant import Quantizer
from mono_quant.core.schemes import Float8WeightOnly, Float16, Int4WeightOnly, Int8WeightOnly
from mono_quant.errors import ConfigurationError, UnsupportedLayerError
from mono_quant.modules import QuantizedModule
from mono_quant.plugin_api.plan import Keep, LayerPlan
from mono_quant.plugin_api.scheme import Scheme

# what torch says of its older weight_norm
OLD = pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")


def reason_for(layer: nn.Module, scheme: Scheme | None = None) -> str:
    kept = (scheme or Int8WeightOnly()).plan("some.layer", layer)
    assert isinstance(kept, Keep)
    return kept.reason


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def parametrized(layer: nn.Module, name: str = "weight") -> nn.Module:
    parametrize.register_parametrization(layer, name, Doubled())
    return layer


COMPUTED = {
    "parametrize": (lambda: parametrized(nn.Linear(3, 3)), "weight"),
    "parametrize-embedding": (lambda: parametrized(nn.Embedding(3, 3)), "weight"),
    "parametrize-lstm": (lambda: parametrized(nn.LSTM(3, 4), "weight_hh_l0"), "weight_hh_l0"),
    "parametrize-attention": (
        lambda: parametrized(nn.MultiheadAttention(3, 1), "in_proj_weight"),
        "in_proj_weight",
    ),
    "weight_norm": (lambda: parametrizations.weight_norm(nn.Conv1d(3, 3, 1)), "weight"),
    "weight_norm-lstm": (lambda: parametrizations.weight_norm(nn.LSTM(3, 4), "weight_hh_l0"), "weight_hh_l0"),
    "weight_norm-cell": (lambda: parametrizations.weight_norm(nn.GRUCell(3, 4), "weight_ih"), "weight_ih"),
    "spectral_norm": (lambda: parametrizations.spectral_norm(nn.Linear(3, 3)), "weight"),
    "orthogonal": (lambda: parametrizations.orthogonal(nn.Linear(3, 3)), "weight"),
    "old weight_norm": (lambda: old_weight_norm(nn.Linear(3, 3)), "weight"),
    "old weight_norm-lstm": (lambda: old_weight_norm(nn.LSTM(3, 4), "weight_hh_l0"), "weight_hh_l0"),
    "old spectral_norm": (lambda: old_spectral_norm(nn.Linear(3, 3)), "weight"),
    "prune": (lambda: prune.l1_unstructured(nn.Linear(3, 3), "weight", 0.5), "weight"),
}


@OLD
@pytest.mark.parametrize("name", COMPUTED)
def test_a_layer_whose_weight_is_computed_is_kept(name: str):
    make, weight = COMPUTED[name]
    assert reason_for(make()) == (
        f"its {weight} is computed, not a parameter (parametrized or weight-normalised); remove that first"
    )


@OLD
@pytest.mark.parametrize("name", [name for name in COMPUTED if "attention" not in name])
def test_a_model_with_such_a_layer_is_quantized_around_it(name: str):
    model = nn.ModuleList([nn.Linear(3, 3), COMPUTED[name][0]()]).eval()
    x = torch.randn(2, 3) if not isinstance(model[1], nn.Embedding) else torch.tensor([0, 2])
    x = torch.randn(1, 3, 1) if isinstance(model[1], nn.Conv1d) else x
    with torch.no_grad():
        expected = model[1](x)
        # In place, for torch copies no layer of the older kinds.
        result = Quantizer("int8-weight-only", validators=()).quantize(model, inplace=True)
        assert_same(result.model[1](x), expected)
    assert list(result.plan.layers) == ["0"]
    assert not any(isinstance(module, QuantizedModule) for module in result.model[1].modules())


def test_what_was_removed_again_is_quantized():
    layer = parametrized(nn.Linear(3, 3))
    parametrize.remove_parametrizations(layer, "weight")
    assert isinstance(Int8WeightOnly().plan("x", layer), LayerPlan)


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.LayerNorm(3), nn.BatchNorm1d(3), nn.PReLU(), nn.Identity()])
def test_other_layers_are_kept(layer: nn.Module):
    assert reason_for(layer) == f"int8-weight-only does not quantize {type(layer).__name__}"


@pytest.mark.parametrize("make", [nn.Embedding, nn.EmbeddingBag])
def test_a_table_that_renormalises_itself_is_kept(make: type[nn.Embedding]):
    assert reason_for(make(3, 4, max_norm=1.0)) == "it renormalises its own weight when it runs (max_norm)"


@pytest.mark.parametrize("scheme", [Int8WeightOnly(), Float8WeightOnly(), Float16()], ids=["int8", "float8", "float16"])
def test_a_layer_that_is_quantized_already_is_kept(scheme: Scheme):
    for quantizing in (Int8WeightOnly(), Float8WeightOnly(), Float16()):
        layer = nn.Linear(3, 4)
        plan = quantizing.plan("x", layer)
        assert isinstance(plan, LayerPlan)
        assert reason_for(quantizing.convert(layer, plan, {}), scheme) == "it is quantized already"


def test_an_empty_weight_a_lazy_one_and_one_of_integers_are_kept():
    for make in (lambda: nn.Embedding(0, 4), lambda: nn.Linear(3, 0), lambda: nn.Conv1d(0, 4, 1)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch's, of nothing to initialise
            layer = make()
        assert reason_for(layer) == "its weight is empty"
    assert reason_for(nn.LazyLinear(3)) == "its shape is not known yet: run the model once before quantizing"
    for dtype in (torch.int8, torch.float8_e4m3fn, torch.complex64):
        layer = nn.Linear(3, 4)
        layer.weight = nn.Parameter(layer.weight.detach().to(dtype), requires_grad=False)
        assert reason_for(layer) == f"its weight is {dtype}, not float"


def test_a_layer_whose_forward_was_replaced_on_the_object_is_kept():
    for replaced in (
        lambda layer: lambda x: nn.functional.linear(x, layer.weight),
        lambda layer: MethodType(nn.Linear.forward, layer),
        lambda layer: partial(nn.Linear.forward, layer),
    ):
        layer = nn.Linear(3, 4)
        layer.forward = replaced(layer)
        assert reason_for(layer) == "its forward was replaced on the object itself, which may know the float weight"


class OwnScale(nn.Linear):
    def __init__(self) -> None:
        super().__init__(20, 4)
        self.weight_scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.weight_scale


class OwnMethod(nn.Embedding):
    def stored(self) -> int:
        return 7


def test_a_layer_with_a_name_that_its_quantized_form_needs_is_kept():
    assert reason_for(OwnScale()) == "it has a 'weight_scale' of its own, a name that quantized layers need"
    assert reason_for(OwnMethod(3, 4)) == "it has a 'stored' of its own, a name that quantized layers need"


@pytest.mark.parametrize("name", CASES)
def test_no_layer_of_torch_has_such_a_name(name: str):
    layer = CASES[name].make()
    plan = Int4WeightOnly(misfit="pad").plan("x", layer)
    assert isinstance(plan, LayerPlan), plan
    assert plan.layer_type == type(layer).__name__


class Scaled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.weight.abs().mean()


class Shared(nn.Embedding):
    """A table that is also an output layer, as in language models."""

    def logits(self, x: Tensor) -> Tensor:
        return x @ self.weight.t()

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits(super().forward(tokens))


class Weighted(nn.Conv1d):
    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, weight * weight, bias)


class Twice(nn.LSTM):
    def forward(self, x: Tensor, hx: object = None) -> object:
        y, state = super().forward(x, hx)
        return y + nn.functional.linear(y, self.weight_hh_l0[:8]), state


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda: Scaled(20, 4), torch.randn(3, 20)),
        (lambda: Shared(9, 4), torch.tensor([[1, 2], [8, 0]])),
        (lambda: Weighted(3, 4, 2), torch.randn(2, 3, 5)),
        (lambda: Twice(5, 8), torch.randn(4, 3, 5)),
    ],
    ids=["linear", "embedding", "conv", "lstm"],
)
def test_a_users_layer_with_a_forward_of_its_own_is_quantized_and_runs_it(
    make: type[nn.Module], x: Tensor, scheme: str
):
    model = Holder(make()).eval()
    module = quantized(model, scheme)
    assert isinstance(module.layer, QuantizedModule)
    assert isinstance(module.layer, type(model.layer))
    with torch.no_grad():
        assert_same(module(x), twin(model, module)(x))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_weight_that_is_not_finite_is_an_error_that_names_the_layer(scheme: str, value: float):
    model = nn.ModuleDict({"encoder": nn.LSTM(20, 4)})
    with torch.no_grad():
        model["encoder"].weight_hh_l0[2, 3] = value
    with pytest.raises(
        UnsupportedLayerError, match=r"layer 'encoder' has weights \(weight_hh_l0\) that are not finite"
    ):
        quantized(model, scheme)


@pytest.mark.parametrize(("scheme", "value"), [("float16", 7e4), ("float16", -1e30), ("bfloat16", 3.4e38)])
def test_a_weight_beyond_half_precision_is_an_error(scheme: str, value: float):
    model = nn.ModuleDict({"encoder": nn.Linear(20, 4)})
    with torch.no_grad():
        model["encoder"].weight[2, 3] = value
    with pytest.raises(UnsupportedLayerError, match=f"layer 'encoder' has weights beyond {scheme}"):
        Quantizer(scheme, validators=()).quantize(model)


def test_large_weights_within_bfloat16_are_none():
    model = nn.Linear(20, 4)
    with torch.no_grad():
        model.weight.fill_(3e38)
    module = Quantizer("bfloat16", validators=()).quantize(model).model
    assert torch.equal(module.weight, model.weight.bfloat16().float())


@pytest.mark.parametrize("group_size", [0, -4, 2.5, "16", None])
def test_a_group_of_no_whole_number_is_refused(group_size: object):
    with pytest.raises(ConfigurationError, match="the size of a group must be a whole number of at least 1"):
        Int4WeightOnly(group_size=group_size)


@pytest.mark.parametrize("option", ["granularity", "misfit"])
def test_an_option_that_is_unknown_is_refused_with_those_that_are_known(option: str):
    with pytest.raises(ConfigurationError, match=f"{option} must be one of .*, got 'per-row'"):
        Int4WeightOnly(**{option: "per-row"})


def test_the_submodule_is_what_its_name_gives():
    assert isinstance(mono_quant.modules.weight_only, ModuleType)
