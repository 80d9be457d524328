"""From a choice to the layers that come in place of the model's, and their plan."""

from collections.abc import Callable, Mapping

import attrs
from torch import nn

from mono_quant.core.plan import with_sizes, without_idle_rewrites
from mono_quant.plugin_api import Keep, LayerPlan
from mono_quant.run import Run
from mono_quant.targets.trial import Trial
from mono_quant.targets.ways import Ways

__all__ = ["chosen"]


def chosen(
    layers: Mapping[str, nn.Module],
    run: Run,
    changed: Mapping[str, Mapping[str, tuple[nn.Module, LayerPlan]]],
    trial: Trial,
    ways: Ways,
    *,
    why_kept: Callable[[str], str],
) -> tuple[dict[str, nn.Module], Run]:
    """The layers of a run with others in place of some.

    Args:
        layers: name → what comes in place of the model's own, as asked for.
        run: that they come from.
        changed: layer → all layers of the way that it has now; empty where it is float.
        trial: knows which layers go with which.
        ways: has the float layers.
        why_kept: the reason why a layer is float.
    """
    now = dict(layers)
    decisions: dict[str, LayerPlan | Keep] = {}
    for name, way in changed.items():
        for one in (name, *trial.inner(name)):
            if one in way:
                now[one], decisions[one] = way[one]
            else:
                decisions[one] = Keep(why_kept(name))
    plan = run.plan.decide(decisions)
    kept = set(decisions) - set(plan.layers)
    plan = without_idle_rewrites(plan, kept)
    rewritten = {name for rewrite in plan.rewrites for name in rewrite.layers}
    for name in kept:
        if name in rewritten:
            now[name] = ways.floats[name]
        else:
            del now[name]
    return now, attrs.evolve(run, plan=plan.decide(with_sizes(plan.layers, now)))
