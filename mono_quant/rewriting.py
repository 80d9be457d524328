"""What algorithms are given, and the proof that the model is the same function after their rewrites."""

from collections.abc import Iterable, Iterator, Mapping

import attrs
import torch
from torch import nn

from mono_quant._plugins.components import Components
from mono_quant.calibration.collecting import Collector
from mono_quant.calibration.state import untouched
from mono_quant.core.intervention import ProvenFlow
from mono_quant.core.plan import connected
from mono_quant.core.sqnr import without_common_infinities
from mono_quant.errors import ConfigurationError, PluginError
from mono_quant.io.checks import run_once
from mono_quant.modules import QuantizedModule
from mono_quant.plugin_api import Algorithm, Batch, Keep, LayerPlan, Plan, Scheme
from mono_quant.plugin_api.algorithm import Statistic

__all__ = [
    "Watched",
    "collectors_of",
    "decision_as_rewritten",
    "float_layer",
    "refuse_other_function",
    "refuse_read_once",
    "rewritten_layers",
    "use_kernels",
    "with_other_inputs",
]

_ROUNDING = 1e4
"""How many of its dtype's smallest steps an output may be off, for all layers of a deep model together."""
_AT_MOST = 0.05
"""The part of the largest output that it may be off at most: in half precision so many steps would be any number."""

_CLAIMED = "name all readers of each module and no others, "
"""What else to do where the user has named them."""


@attrs.frozen(eq=False)
class Watched:
    """A model's `mono_quant.plugin_api.DataFlow`, with the statistics of one algorithm.

    Args:
        flow: which module's output went where.
        statistics: what the algorithm asked for, by module name, with data in it.
    """

    flow: ProvenFlow
    statistics: Mapping[str, Statistic]

    def only_consumer(self, name: str) -> str | None:
        """As `ProvenFlow.only_consumer`."""
        return self.flow.only_consumer(name)

    def consumers(self, name: str) -> tuple[str, ...]:
        """As `ProvenFlow.consumers`."""
        return self.flow.consumers(name)

    def follower(self, name: str) -> str | None:
        """As `ProvenFlow.follower`."""
        return self.flow.follower(name)

    def output_ndim(self, name: str) -> int | None:
        """As `ProvenFlow.output_ndim`."""
        return self.flow.output_ndim(name)

    def statistic(self, name: str) -> Statistic | None:
        """What the algorithm's own ``statistic`` gave for that module."""
        return self.statistics.get(name)


def collectors_of(
    algorithms: Iterable[tuple[str, Algorithm]], modules: Mapping[str, nn.Module], watched: Iterable[str], plan: Plan
) -> list[Collector]:
    """What each algorithm asks to know of the watched modules, in the order of the algorithms.

    Raises:
        PluginError: when one of them fails at saying so.
    """
    names = list(watched)
    return [Collector(name, dict(_asked(name, algorithm, modules, names, plan))) for name, algorithm in algorithms]


def float_layer(components: Components, modules: Mapping[str, nn.Module], plan: Plan, name: str) -> nn.Module:
    """The float layer that is quantized under a name: the model's own, after the plan's rewrites."""
    changed: dict[str, nn.Module] = {}
    for rewrite in connected(plan.rewrites, name):
        known = {**modules, **changed}
        with untouched(f"algorithm {rewrite.algorithm!r}", *(known[layer] for layer in rewrite.layers)):
            changed.update(components.algorithm(rewrite.algorithm).apply(rewrite, known))
    return changed.get(name, modules[name])


def decision_as_rewritten(scheme: Scheme, name: str, layer: nn.Module) -> LayerPlan:
    """A scheme's decision on a float layer after its rewrites.

    Raises:
        ConfigurationError: when it is to keep the layer, which was not so before them.
    """
    decision = scheme.plan(name, layer)
    if isinstance(decision, Keep):
        raise ConfigurationError(f"layer {name!r} cannot be quantized after its rewrites: {decision.reason}")
    return decision


def rewritten_layers(components: Components, modules: Mapping[str, nn.Module], plan: Plan) -> dict[str, nn.Module]:
    """The layers that the plan's rewrites name, after them; weights of their own, so not to be kept for long."""
    names = sorted({layer for rewrite in plan.rewrites for layer in rewrite.layers})
    return {name: float_layer(components, modules, plan, name) for name in names}


def use_kernels(model: nn.Module, components: Components) -> None:
    """Let the quantized layers of a model choose from the kernels of a run."""
    for module in model.modules():
        if isinstance(module, QuantizedModule):
            module.use_kernels(components.kernels, components.config.kernel)


def with_other_inputs(plan: Plan, algorithms: Iterable[tuple[str, Algorithm]]) -> set[str]:
    """The layers named by rewrites after which layers get other inputs."""
    changing = {name for name, algorithm in algorithms if algorithm.changes_inputs}
    return {layer for rewrite in plan.rewrites if rewrite.algorithm in changing for layer in rewrite.layers}


def refuse_read_once(data: object, algorithms: Iterable[tuple[str, Algorithm]]) -> None:
    """Refuse data that cannot be read a second time, where that may be needed.

    Raises:
        ConfigurationError: naming the algorithm.
    """
    twice = [name for name, algorithm in algorithms if algorithm.changes_inputs]
    if twice and isinstance(data, Iterator):
        raise ConfigurationError(
            f"{twice[0]} changes what layers are given, so the calibration data are read twice, and a "
            f"{type(data).__name__} can be read once: give a list, a DataLoader or another iterable"
        )


def refuse_other_function(
    model: nn.Module, rewritten: nn.Module, batch: Batch, plan: Plan, *, are_claimed: bool = False
) -> None:
    """Compare the float model before and after its rewrites on a batch.

    Args:
        model: before.
        rewritten: after.
        batch: what both are run on.
        plan: with the rewrites.
        are_claimed: whether some of them rest on what the user said.

    Raises:
        PluginError: when the outputs differ by more than rounding explains.
    """
    algorithms = dict.fromkeys(rewrite.algorithm for rewrite in plan.rewrites)
    for x, y in zip(run_once(model, batch), run_once(rewritten, batch), strict=True):
        if not x.is_floating_point():
            continue
        expected, actual = (one.double() for one in without_common_infinities(x, y))
        known = ~(expected.isnan() & actual.isnan())
        if not bool(known.any()):
            continue
        error = float((actual - expected)[known].abs().max())
        largest = float(expected[known].abs().max())
        if not error <= min(_ROUNDING * torch.finfo(x.dtype).eps, _AT_MOST) * largest:
            raise PluginError(
                f"after the rewrites of {' and '.join(algorithms)} the float model gives another output, off by "
                f"{error:.2g} where the largest is {largest:.2g}: "
                f"{_CLAIMED if are_claimed else ''}leave the algorithm out, or exclude its layers"
            )


def _asked(
    name: str, algorithm: Algorithm, modules: Mapping[str, nn.Module], watched: Iterable[str], plan: Plan
) -> Iterable[tuple[str, Statistic]]:
    layers = plan.layers
    for layer in watched:
        try:
            statistic = algorithm.statistic(layer, modules[layer], layers.get(layer))
        except Exception as error:  # a plugin's code
            raise PluginError(
                f"algorithm {name!r} failed to say what it collects of layer {layer!r}: {type(error).__name__}: {error}"
            ) from error
        if statistic is not None:
            yield layer, statistic
