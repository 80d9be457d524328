"""What every scheme promises."""

import copy
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from mono_quant.core.encoding import decode
from mono_quant.core.observers import MinMaxObserver
from mono_quant.core.sqnr import sqnr_db
from mono_quant.core.tensors import same_bits
from mono_quant.errors import MonoQuantError, UnsupportedLayerError
from mono_quant.modules import QuantizedModule
from mono_quant.plugin_api import Keep, LayerPlan, Observer, Scheme, SchemeSpec, WeightSpec, hookimpl
from mono_quant.quantizer import Quantizer
from mono_quant.testing.data import seeded

__all__ = ["SchemeSuite"]

_FEATURES = 256
_HARD: dict[str, Callable[[Tensor], Tensor]] = {
    "zeros": torch.zeros_like,
    "constant": lambda w: torch.full_like(w, 0.3),
    "one-sign": lambda w: w.abs() + 0.01,
    "an-outlier": lambda w: w.index_fill(0, torch.tensor([0]), 50.0),
    "a-row-of-zeros": lambda w: w.index_fill(0, torch.tensor([0]), 0.0),
    "tiny": lambda w: w * 1e-20,
    "large": lambda w: w * 1e4,
}
"""Weights that are hard to scale."""


class SchemeSuite(ABC):
    """Derive a test class from it, write `make`, set `name`, and say in `layers` what it quantizes."""

    name: ClassVar[str]
    """The scheme's registry name, which its plans and files carry."""

    minimum_sqnr_db: ClassVar[float] = 20.0
    """The output SQNR that each of `layers`, with random weights and inputs, must have."""

    float_types: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
    """What the weights of a float layer may be."""

    is_pickled: ClassVar[bool] = True
    """Whether its layers travel through ``pickle``; torch cannot take a float8 tensor out of one."""

    @abstractmethod
    def make(self) -> Scheme:
        """A new scheme; restoring a file uses the default options, whatever are set here."""

    def layers(self) -> Mapping[str, tuple[nn.Module, Tensor]]:
        """Float layers that it quantizes, each with an input, by a name; made anew at each call."""
        x = torch.randn(8, _FEATURES, generator=seeded(1))
        return {"linear": (nn.Linear(_FEATURES, 16), x), "no-bias": (nn.Linear(_FEATURES, 24, bias=False), x)}

    def test_it_is_a_scheme(self) -> None:
        assert isinstance(self.make(), Scheme), "make() must give a mono_quant.plugin_api.Scheme"

    def test_its_plans_say_what_will_be_stored(self) -> None:
        for name, layer, _ in self._layers():
            plan = self._plan(name, layer)
            assert (plan.name, plan.scheme) == (name, self.name), "a plan carries the names of the layer and the scheme"
            assert plan.weights, f"the plan of {name} quantizes no weight"
            for weight, spec in plan.weights.items():
                parameter = layer.get_parameter(weight)
                assert spec.shape == tuple(parameter.shape), f"{name}.{weight}: the spec has another shape"
                assert spec.dequantized_dtype == parameter.dtype, f"{name}.{weight}: the spec has another float_dtype"

    def test_plans_come_from_types_and_shapes_alone(self) -> None:
        for name, layer, _ in self._layers():
            assert self._plan(name, layer) == self._plan(name, copy.deepcopy(layer).to("meta"))

    def test_planning_changes_nothing(self) -> None:
        for name, layer, _ in self._layers():
            before, keys = _snapshot(layer), set(vars(layer))
            self._plan(name, layer)
            assert _same_tensors(before, _snapshot(layer)) and set(vars(layer)) == keys, "plan() changed the layer"

    def test_what_it_does_not_know_is_kept_with_a_reason(self) -> None:
        for module in (_Unknown(), nn.Identity(), nn.Sequential(nn.Linear(4, 4))):
            decision = self.make().plan("layer", module)
            assert isinstance(decision, Keep), f"it plans a {type(module).__name__}, which it cannot know"
            assert decision.reason

    def test_a_forward_of_the_users_own_is_not_replaced(self) -> None:
        decision = self.make().plan("layer", _Doubling(_FEATURES, 16))
        replaced = isinstance(decision, LayerPlan) and decision.input is not None
        assert not replaced, "a subclass with a forward of its own would be replaced by another function"

    def test_converting_leaves_the_float_layer_as_it_was(self) -> None:
        for name, layer, x in self._layers():
            before = _snapshot(layer)
            converted = self._convert(name, layer, x)
            assert _same_tensors(before, _snapshot(layer)), f"convert() changed the float layer {name}"
            places = [
                {t.untyped_storage().data_ptr() for t in _own(m).values() if t.numel()} for m in (layer, converted)
            ]
            assert not places[0] & places[1], f"the quantized layer shares memory with the float layer {name}"

    @pytest.mark.parametrize("is_training", [True, False])
    def test_the_mode_is_kept(self, *, is_training: bool) -> None:
        for name, layer, x in self._layers():
            assert self._convert(name, layer.train(is_training), x).training is is_training

    def test_plain_tensors_are_stored(self) -> None:
        for name, layer, x in self._layers():
            weights = tuple(self._plan(name, layer).weights)
            for key, tensor in self._convert(name, layer, x).state_dict(keep_vars=True).items():
                assert type(tensor) in {Tensor, nn.Parameter}, f"{name}.{key} is a {type(tensor).__name__}"
                assert not tensor.is_quantized, f"{name}.{key} is of a quantized dtype of torch"
                is_frozen = not (tensor.requires_grad and key.startswith(weights))
                assert is_frozen, f"{name}.{key} requires a gradient, and codes cannot be trained"

    def test_the_plan_counts_every_byte(self) -> None:
        for name, layer, x in self._layers():
            stored = _own(self._convert(name, layer, x)).values()
            planned, found = self._plan(name, layer).quantized_bytes, sum(t.numel() * t.element_size() for t in stored)
            assert planned == found, f"the plan of {name} says {planned} bytes, the layer has {found}"

    def test_the_output_is_close_to_that_of_float(self) -> None:
        for name, layer, x in self._layers():
            expected, found = _run(layer, x), _run(self._convert(name, layer, x), x)
            assert found.shape == expected.shape, f"{name} gives an output of another shape"
            sqnr = sqnr_db(expected, found)
            assert sqnr >= self.minimum_sqnr_db, f"{name} has an output SQNR of {sqnr:.1f} dB"

    def test_weights_are_rounded_to_the_nearest_code(self) -> None:
        for name, layer, x in self._layers():
            converted, plan = self._convert(name, layer, x), self._plan(name, layer)
            if not isinstance(converted, QuantizedModule):
                continue  # how it stores its weights is its own affair
            for weight, spec in plan.weights.items():
                if spec.is_scaled and not spec.dtype.is_float:
                    stored = converted.stored(weight)
                    step = _per_weight(stored["_scale"].detach(), spec)
                    error = (decode(stored, spec).detach() - layer.get_parameter(weight).detach().float()).abs()
                    worst = float((error / step).max())
                    assert worst <= 1.01, (
                        f"{name}.{weight} is {worst:.2f} steps away from the float weight"
                    )  # half a step, and another half where the range was cut

    @pytest.mark.parametrize("hard", _HARD)
    def test_hard_weights_give_finite_outputs(self, hard: str) -> None:
        for name, layer, x in self._layers():
            with torch.no_grad():
                for parameter in layer.parameters():
                    if parameter.ndim > 1:
                        parameter.copy_(_HARD[hard](parameter))
            output = _run(self._convert(name, layer, x), x)
            assert bool(torch.isfinite(output).all()), f"{name} with weights {hard} gives an output that is not finite"

    def test_a_weight_that_is_not_finite_is_refused(self) -> None:
        for name, layer, x in self._layers():
            plan = self._plan(name, layer)
            for weight in plan.weights:
                broken = copy.deepcopy(layer)
                with torch.no_grad():
                    broken.get_parameter(weight).view(-1)[0] = torch.nan
                with pytest.raises(MonoQuantError, match=name):
                    self._convert(name, broken, x)

    def test_the_same_layer_gives_the_same_bits(self) -> None:
        for name, layer, x in self._layers():
            one, other = (_snapshot(self._convert(name, layer, x)) for _ in range(2))
            assert _same_tensors(one, other), f"two conversions of {name} differ"

    def test_a_restored_layer_takes_the_tensors_and_gives_the_same_bits(self) -> None:
        for name, layer, x in self._layers():
            converted, plan = self._convert(name, layer, x), self._plan(name, layer)
            empty = self.make().restore(copy.deepcopy(layer).to("meta"), plan)
            assert all(tensor.is_meta for tensor in empty.state_dict().values()), "restore() must give tensors on meta"
            empty.load_state_dict(converted.state_dict(), assign=True)
            empty.train(converted.training)
            assert same_bits(_run(converted, x), _run(empty, x)), f"{name} restored gives another output"

    def test_another_module_is_not_restored(self) -> None:
        for name, layer, _ in self._layers():
            with pytest.raises(UnsupportedLayerError):
                self.make().restore(_Unknown(), self._plan(name, layer))

    def test_copies_give_the_same_bits(self) -> None:
        for name, layer, x in self._layers():
            converted = self._convert(name, layer, x)
            copies = [copy.deepcopy(converted)]
            if self.is_pickled:
                copies.append(pickle.loads(pickle.dumps(converted)))  # noqa: S301 - pickled on this line
            expected = _run(converted, x)
            assert all(same_bits(expected, _run(one, x)) for one in copies), f"a copy of {name} gives another output"

    def test_every_float_type_is_quantized_and_given_back(self) -> None:
        for dtype in self.float_types:
            for name, layer, x in self._layers():
                x = x.to(dtype) if x.is_floating_point() else x  # noqa: PLW2901 - indices stay
                output = _run(self._convert(name, layer.to(dtype), x), x)
                assert output.dtype == dtype, f"{name} of {dtype} gives {output.dtype}"
                assert bool(torch.isfinite(output).all())

    def test_tensors_of_a_checkpoint_are_planned_or_kept(self) -> None:
        scheme = self.make()
        for shape in ((16, _FEATURES), (16,), (), (0, 4), (4, 3, 3, 3)):
            for dtype in (torch.float32, torch.bfloat16, torch.int64, torch.bool):
                try:
                    decision = scheme.plan_tensor("layer.weight", torch.empty(shape, dtype=dtype, device="meta"))
                except UnsupportedLayerError as error:  # as for a width that its groups do not divide
                    assert "layer.weight" in str(error), "an error about a tensor must name it"  # noqa: PT017 - as above
                    continue
                is_float = dtype.is_floating_point
                assert isinstance(decision, WeightSpec | Keep), "plan_tensor() must give a WeightSpec or Keep"
                assert is_float or isinstance(decision, Keep), f"it plans a tensor of {dtype}"
                assert isinstance(decision, Keep) or decision.shape == shape

    def test_a_quantizer_saves_and_loads_it(self, tmp_path: Path) -> None:
        quantizer = Quantizer(
            self.name, plugins=[_Plugin(self.name, self.make)], autoload=False, show_progress=False,
        )  # fmt: skip
        for name, layer, x in self._layers():
            model = nn.Sequential(layer)
            result = quantizer.quantize(model, [x, x])
            assert result.info.selected_layers, f"a quantizer does not quantize {name}"
            path = tmp_path / f"{name}.safetensors"
            result.save(path)
            loaded = quantizer.load(path, model=copy.deepcopy(model))
            assert same_bits(_run(result.model, x), _run(loaded, x)), f"{name}, saved and loaded, gives another output"

    def _layers(self) -> Iterator[tuple[str, nn.Module, Tensor]]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(11)
            made = self.layers()
        for name, (layer, x) in made.items():
            yield name, layer, x

    def _plan(self, name: str, layer: nn.Module) -> LayerPlan:
        decision = self.make().plan(name, layer)
        assert isinstance(decision, LayerPlan), f"{name} is one of layers(), and is kept: {decision.reason}"
        return decision

    def _convert(self, name: str, layer: nn.Module, x: Tensor) -> nn.Module:
        plan, statistics = self._plan(name, layer), dict[str, Observer]()
        if plan.needs_data and plan.input is not None:
            spec = plan.input
            observer = MinMaxObserver(spec.dtype, symmetric=spec.symmetric, granularity=spec.granularity)
            observer.forward(x.float())
            statistics["input"] = observer
        return self.make().convert(layer, plan, statistics)


class _Plugin:
    def __init__(self, name: str, factory: Any) -> None:  # noqa: ANN401
        self._name, self._factory = name, factory

    @hookimpl
    def mono_quant_schemes(self) -> list[SchemeSpec]:
        return [SchemeSpec(name=self._name, summary="the scheme under test", factory=self._factory)]


class _Unknown(nn.Module):
    """A module of the user's own, with a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(16, _FEATURES))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T


class _Doubling(nn.Linear):
    """Looks like a Linear, and is another function."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of nn.Linear's parameter
        return 2 * super().forward(input)


def _run(layer: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        output = layer(x)
    while isinstance(output, tuple):  # recurrent layers and attention give states and weights besides
        output = output[0]
    assert isinstance(output, Tensor)
    return output


def _own(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _same_tensors(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(same_bits(tensor, other[name]) for name, tensor in one.items())


def _per_weight(scale: Tensor, spec: WeightSpec) -> Tensor:
    """The scale of each weight, in the shape of the weight."""
    if scale.ndim == 0:
        return scale.expand(spec.shape)
    if scale.ndim == 1:
        return scale.reshape([-1 if axis == spec.axis % len(spec.shape) else 1 for axis in range(len(spec.shape))])
    rows = scale.repeat_interleave(spec.group_size, dim=1)[:, : spec.per_channel]
    moved = [spec.channels, *(size for axis, size in enumerate(spec.shape) if axis != spec.axis % len(spec.shape))]
    return rows.reshape(moved).movedim(0, spec.axis)
