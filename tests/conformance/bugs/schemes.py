"""Schemes with one bug each."""

from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from mono_quant.core.schemes import Int8Static, Int8WeightOnly
from mono_quant.plugin_api import LayerPlan, Observer, Scheme
from mono_quant.testing import SchemeSuite

FINDS: dict[type[SchemeSuite], str] = {}


def planted(test: str, name: str = "int8-static") -> Any:
    def wrap(scheme: type[Scheme]) -> type[Scheme]:
        members = {
            "name": name,
            "minimum_sqnr_db": 30.0,
            "make": lambda self: scheme(),
            "__module__": __name__,
        }
        suite = type(f"Test{scheme.__name__}", (SchemeSuite,), members)
        globals()[suite.__name__] = suite
        FINDS[suite] = test
        return scheme

    return wrap


@planted("test_converting_leaves_the_float_layer_as_it_was")
class RoundsTheFloatLayer(Int8Static):
    def convert(self, module: nn.Module, plan: LayerPlan, statistics: Mapping[str, Observer]) -> nn.Module:
        with torch.no_grad():
            module.weight.copy_(module.weight.half())
        return super().convert(module, plan, statistics)


@planted("test_converting_leaves_the_float_layer_as_it_was")
class SharesTheBias(Int8Static):
    def convert(self, module: nn.Module, plan: LayerPlan, statistics: Mapping[str, Observer]) -> nn.Module:
        converted = super().convert(module, plan, statistics)
        converted.bias = module.bias
        return converted


@planted("test_the_plan_counts_every_byte")
class ForgetsTheScales(Int8Static):
    def plan(self, name: str, module: nn.Module) -> Any:
        decision = super().plan(name, module)
        return attrs.evolve(decision, quantized_bytes=16 * 256) if isinstance(decision, LayerPlan) else decision


@planted("test_what_it_does_not_know_is_kept_with_a_reason")
class PlansEverything(Int8Static):
    def plan(self, name: str, module: nn.Module) -> Any:
        decision = super().plan(name, module)
        return decision if isinstance(decision, LayerPlan) else super().plan(name, nn.Linear(4, 4))


@planted("test_a_forward_of_the_users_own_is_not_replaced")
class ReplacesSubclasses(Int8Static):
    def plan(self, name: str, module: nn.Module) -> Any:
        return super().plan(
            name, nn.Linear(4, 4) if isinstance(module, nn.Linear) and type(module) is not nn.Linear else module
        )


@planted("test_weights_are_rounded_to_the_nearest_code", "int8-weight-only")
class RoundsTwoStepsOff(Int8WeightOnly):
    def convert(self, module: nn.Module, plan: LayerPlan, statistics: Mapping[str, Observer]) -> nn.Module:
        converted = super().convert(module, plan, statistics)
        converted.stored("weight")[""].clamp_(-120, 120).add_(2)
        return converted


@planted("test_the_output_is_close_to_that_of_float")
class MixesUpRows(Int8Static):
    def convert(self, module: nn.Module, plan: LayerPlan, statistics: Mapping[str, Observer]) -> nn.Module:
        converted = super().convert(module, plan, statistics)
        converted.weight.copy_(converted.weight.flip(0).clone())
        return converted


@planted("test_a_weight_that_is_not_finite_is_refused")
class AcceptsNaN(Int8Static):
    def convert(self, module: nn.Module, plan: LayerPlan, statistics: Mapping[str, Observer]) -> nn.Module:
        with torch.no_grad():
            finite = nn.Linear(module.in_features, module.out_features, bias=module.bias is not None)
            finite.load_state_dict({name: t.nan_to_num() for name, t in module.state_dict().items()})
        return super().convert(finite.train(module.training), plan, statistics)


@planted("test_a_restored_layer_takes_the_tensors_and_gives_the_same_bits")
class RestoresWithoutABias(Int8Static):
    def restore(self, module: nn.Module, plan: LayerPlan) -> nn.Module:
        restored = super().restore(module, plan)
        restored.bias = None
        return restored


@planted("test_another_module_is_not_restored")
class RestoresAnything(Int8Static):
    def restore(self, module: nn.Module, plan: LayerPlan) -> nn.Module:
        out, features = plan.weights["weight"].shape
        return super().restore(nn.Linear(features, out, device="meta"), plan)


@planted("test_the_mode_is_kept")
class ChangesTheMode(Int8Static):
    def convert(self, module: nn.Module, plan: LayerPlan, statistics: Mapping[str, Observer]) -> nn.Module:
        return super().convert(module, plan, statistics).eval()


@planted("test_every_float_type_is_quantized_and_given_back")
class GivesFloat32Back(Int8Static):
    def convert(self, module: nn.Module, plan: LayerPlan, statistics: Mapping[str, Observer]) -> nn.Module:
        converted = super().convert(module, plan, statistics)
        converted.register_forward_hook(_to_float32)
        return converted


def _to_float32(_module: nn.Module, _args: object, output: Tensor) -> Tensor:
    return output.float()


@planted("test_hard_weights_give_finite_outputs")
class DividesByTheRange(Int8Static):
    def convert(self, module: nn.Module, plan: LayerPlan, statistics: Mapping[str, Observer]) -> nn.Module:
        converted = super().convert(module, plan, statistics)
        low, high = module.weight.aminmax(dim=1)
        with torch.no_grad():
            converted.weight_scale.mul_((high - low) / (high - low))
        return converted


@planted("test_plans_come_from_types_and_shapes_alone")
class LooksAtTheData(Int8Static):
    def plan(self, name: str, module: nn.Module) -> Any:
        if (
            isinstance(module, nn.Linear)
            and not module.weight.is_meta
            and float(module.weight.detach().abs().max()) > 0
        ):
            return super().plan(name, module)
        return super().plan(name, nn.Identity())


@planted("test_the_same_layer_gives_the_same_bits")
class Dithers(Int8Static):
    def convert(self, module: nn.Module, plan: LayerPlan, statistics: Mapping[str, Observer]) -> nn.Module:
        converted = super().convert(module, plan, statistics)
        converted.weight.sub_(torch.randint(0, 2, converted.weight.shape, dtype=torch.int8)).clamp_(-60, 60)
        return converted
