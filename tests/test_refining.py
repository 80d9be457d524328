"""What refinements may give and do: tensors in the place of others, and nothing else."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mono_quant import Quantizer
from mono_quant.core.tensors import same_bits
from mono_quant.errors import ConfigurationError, PluginError
from mono_quant.plugin_api import Algorithm, AlgorithmSpec, Refinement, Rewrite, hookimpl
from mono_quant.result import QuantizationResult

Refine = Callable[[nn.Module, nn.Module], Mapping[str, Tensor]]


class Plugin:
    """One algorithm that refines as a function says."""

    def __init__(self, refine: Refine) -> None:
        class Refines(Refinement):
            def refine(self, layer: nn.Module, quantized: nn.Module, *_: object) -> Mapping[str, Tensor]:
                return refine(layer, quantized)

        self._factory = Refines

    @hookimpl
    def mono_quant_algorithms(self) -> list[AlgorithmSpec]:
        return [AlgorithmSpec(name="refines", summary="as a test says", factory=self._factory)]


def quantized(model: nn.Module, refine: Refine, scheme: str = "int8-dynamic") -> QuantizationResult:
    quantizer = Quantizer(scheme, algorithms=["refines"], plugins=[Plugin(refine)], validators=(), show_progress=False)
    return quantizer.quantize(model)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4)).eval()


def write(tensor: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        tensor.mul_(2)
    return {}


def write_past_autograd(tensor: Tensor) -> dict[str, Tensor]:
    tensor.data.mul_(2)
    return {}


def test_its_tensors_take_the_place_of_the_schemes():
    result = quantized(net(), lambda _, layer: {"bias": torch.ones_like(layer.bias)})
    assert torch.equal(result.model[0].bias, torch.ones(6))
    assert torch.equal(result.model[1].bias, torch.ones(4))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"codes": torch.zeros(1)}, "refines layer '0' with 'codes', which it has not"),
        ({"bias": torch.zeros(5)}, r"'bias' of shape \[5\] .* in place of \[6\]"),
        ({"bias": torch.zeros(6, dtype=torch.float64)}, "'bias' of shape .* torch.float64 in place of"),
        ({"bias": torch.full((6,), torch.nan)}, "'bias' that is not finite"),
        ({"weight": torch.full((6, 8), 127, dtype=torch.int8)}, "codes that some CPUs would add up wrongly"),
    ],
    ids=["unknown", "shape", "dtype", "nan", "saturating"],
)
def test_tensors_that_cannot_take_a_place_are_refused(found: dict[str, Tensor], said: str):
    with pytest.raises(PluginError, match=said):
        quantized(net(), lambda *_: found)


@pytest.mark.parametrize("does", [write, write_past_autograd])
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_a_write_into_the_float_layer_is_undone_and_an_error(does: Callable[[Tensor], Any], name: str):
    model = net()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(PluginError, match=f"'refines', which refines layer '0', wrote into '{name}'"):
        quantized(model, lambda layer, _: does(getattr(layer, name)))
    assert all(same_bits(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("does", [write, write_past_autograd])
def test_a_write_into_the_quantized_layer_is_an_error(does: Callable[[Tensor], Any]):
    with pytest.raises(PluginError, match="wrote into 'weight_scale'"):
        quantized(net(), lambda _, layer: does(layer.weight_scale))


def test_layers_that_share_a_weight_are_not_refined():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)).eval()
    model[1].weight = model[0].weight
    seen: list[nn.Module] = []
    quantized(model, lambda layer, _: seen.append(layer) or {}, "int8-weight-only")
    assert seen == [model[2]]


@pytest.mark.parametrize("chooser", ["gptq", "adaround"])
def test_codes_that_are_chosen_after_biases_were_corrected_for_others_are_refused(chooser: str):
    model, data = net(), [torch.rand(32, 2) @ torch.rand(2, 8) for _ in range(4)]
    scheme = {"name": "int4-weight-only", "granularity": "per-channel"}
    wrong = Quantizer(scheme, algorithms=["bias-correction", chooser], show_progress=False)
    with pytest.raises(ConfigurationError, match=f"name {chooser!r} before 'bias-correction'"):
        wrong.quantize(model, data)
    Quantizer(scheme, algorithms=[chooser, "bias-correction"], show_progress=False).quantize(model, data)


class Several:
    """Algorithms, each of which gives some tensors of every layer back as they are."""

    def __init__(self, **given: list[str]) -> None:
        self._given = given

    @hookimpl
    def mono_quant_algorithms(self) -> list[AlgorithmSpec]:
        return [
            AlgorithmSpec(name=name, summary="as a test says", factory=self._giving(names))
            for name, names in self._given.items()
        ]

    @staticmethod
    def _giving(names: list[str]) -> type[Refinement]:
        class Gives(Refinement):
            def refine(self, _: object, quantized: nn.Module, *__: object) -> Mapping[str, Tensor]:
                own = {**dict(quantized.named_buffers()), **dict(quantized.named_parameters())}
                return {name: own[name].detach().clone() for name in names}

        return Gives


def refined_by(model: nn.Module, **given: list[str]) -> None:
    scheme = {"name": "int4-weight-only", "granularity": "per-channel"}
    Quantizer(scheme, algorithms=[*given], plugins=[Several(**given)], validators=(), show_progress=False).quantize(
        model
    )


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (["bias"], ["weight"], "'second' chooses codes for layer '0', whose bias 'first' has corrected"),
        (["bias"], ["weight_scale"], "whose bias 'first' has corrected"),
        (["bias"], ["weight_zero_point"], "whose bias 'first' has corrected"),
        (["weight"], ["weight_scale"], "'second' chooses scales for layer '0', whose codes 'first' has chosen"),
        (["weight"], ["weight_zero_point", "weight"], "whose codes 'first' has chosen"),
    ],
)
def test_who_comes_too_late_is_told_its_place(first: list[str], second: list[str], said: str):
    with pytest.raises(ConfigurationError, match=f"{said}.*name 'second' before 'first'"):
        refined_by(net(), first=first, second=second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["weight"], ["weight"]), (["weight"], ["bias"]), (["bias"], ["bias"]), ([], ["weight_scale"]),
        (["weight_scale", "weight"], ["weight"]), (["weight_scale", "weight"], ["weight_scale", "weight"]),
    ],
)  # fmt: skip
def test_any_other_order_is_right(first: list[str], second: list[str]):
    refined_by(net(), first=first, second=second)


def test_scales_of_one_weight_may_follow_codes_of_another():
    lstm = nn.Sequential(nn.LSTM(8, 6)).eval()
    refined_by(lstm, first=["weight_ih_l0"], second=["weight_hh_l0", "weight_hh_l0_scale"])
    with pytest.raises(ConfigurationError, match="name 'second' before 'first'"):
        refined_by(lstm, first=["weight_hh_l0"], second=["weight_hh_l0", "weight_hh_l0_scale"])


def test_one_that_gives_nothing_at_all_is_named():
    with pytest.raises(PluginError, match="algorithm 'refines', which refines layer '0', gave None"):
        quantized(net(), lambda *_: None)  # type: ignore[arg-type,return-value]


class Watches:
    """Counts the inputs that it is given."""

    def __init__(self) -> None:
        self.inputs = 0

    def __call__(self, _: Tensor) -> None:
        self.inputs += 1


class Counting:
    """One algorithm that only refines, or might do more, beside one that may change inputs, and does not."""

    def __init__(self, *, only_refines: bool) -> None:
        self.watched: list[Watches] = []
        watched, only = self.watched, only_refines

        class Refines(Algorithm):
            only_refines = only

            def statistic(self, *_: object) -> Watches:
                watched.append(Watches())
                return watched[-1]

            def find(self, *_: object) -> list[Rewrite]:
                return []

            def apply(self, *_: object) -> dict[str, nn.Module]:
                return {}

            def refine(self, *_: object) -> dict[str, Tensor]:
                return {}

        class Changes(Refines):
            changes_inputs = True
            only_refines = False

            def statistic(self, *_: object) -> None:
                return None

        self._specs = [
            AlgorithmSpec(name="refines", summary="as a test says", factory=Refines),
            AlgorithmSpec(name="changes", summary="as a test says", factory=Changes),
        ]

    @hookimpl
    def mono_quant_algorithms(self) -> list[AlgorithmSpec]:
        return self._specs


class Data:
    """Batches, and how often they were read."""

    def __init__(self) -> None:
        self.reads = 0

    def __iter__(self) -> Iterator[Tensor]:
        self.reads += 1
        yield from (torch.randn(3, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(5))


@pytest.mark.parametrize(
    ("algorithms", "only_refines", "reads"),
    [(["changes", "refines"], True, 2), (["changes", "refines"], False, 1), (["refines"], True, 1)],
)
def test_statistics_are_collected_once(algorithms: list[str], only_refines: bool, reads: int):  # noqa: FBT001
    plugin, data = Counting(only_refines=only_refines), Data()
    Quantizer(algorithms=algorithms, plugins=[plugin], validators=(), show_progress=False).quantize(net(), data)
    assert [one.inputs for one in plugin.watched] == [5, 5]
    assert data.reads == reads


class FindsAfterAll(Algorithm):
    only_refines = True

    def find(self, *_: object) -> list[Rewrite]:
        return [Rewrite(algorithm="finds", layers=("0",), removed={})]

    def apply(self, rewrite: Rewrite, modules: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        del rewrite
        return {"0": modules["0"]}


class FindsPlugin:
    @hookimpl
    def mono_quant_algorithms(self) -> list[AlgorithmSpec]:
        return [AlgorithmSpec(name="finds", summary="contradicts itself", factory=FindsAfterAll)]


def test_one_that_says_that_it_only_refines_and_finds_rewrites_is_named():
    with pytest.raises(PluginError, match="algorithm 'finds' says that it only refines, and found 1 rewrites"):
        Quantizer(algorithms=["finds"], plugins=[FindsPlugin()], show_progress=False).quantize(
            net(), [torch.randn(3, 8)]
        )
