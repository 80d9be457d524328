"""From a choice to the layers that come in place of the model's, and their plan."""

from collections.abc import Mapping

import attrs
from torch import nn

from mono_quant.core.plan import with_sizes
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
    title: str,
) -> tuple[dict[str, nn.Module], Run]:
    """The layers of a run with others in place of some.

    Args:
        layers: name → what comes in place of the model's own, as asked for.
        run: that they come from.
        changed: layer → all layers of the way that it has now; empty where it is float.
        trial: knows which layers go with which.
        ways: has the float layers.
        title: the target as text, for the reason why a layer is kept.
    """
    now = dict(layers)
    rewritten = {name for rewrite in run.plan.rewrites for name in rewrite.layers}
    decisions: dict[str, LayerPlan | Keep] = {}
    for name, way in changed.items():
        for one in (name, *trial.inner(name)):
            if one in way:
                now[one], decisions[one] = way[one]
                continue
            decisions[one] = Keep(f"the target needs it: {title}")
            if one in rewritten:
                now[one] = ways.floats[one]
            else:
                del now[one]
    plans = {name: one for name, one in {**run.plan.layers, **decisions}.items() if isinstance(one, LayerPlan)}
    sized = with_sizes(plans, now)
    return now, attrs.evolve(run, plan=run.plan.decide({**decisions, **sized}))
