"""What calibration found."""

from collections.abc import Mapping, MutableMapping

import attrs

from mono_quant.plugin_api import Batch, Observer, Plan, Statistic

__all__ = ["Run"]


@attrs.frozen(kw_only=True, eq=False)
class Run:
    """What calibration found.

    Args:
        plan: the ledger, as far as it is decided.
        observers: layer name → the observer of its input, with data in it.
        batches: how many batches were drawn.
        first: the first of them; None without data.
        collected: algorithm → layer → what it collected of the layer's inputs. It is large, and emptied when it is done
            with.
    """

    plan: Plan
    observers: Mapping[str, Observer] = attrs.field(factory=dict)
    batches: int = 0
    first: Batch | None = None
    collected: MutableMapping[str, Mapping[str, Statistic]] = attrs.field(factory=dict)
