"""Which layers cost what: each quantized alone."""

from mono_quant.plugin_api import Plan
from mono_quant.targets.reach import measured
from mono_quant.targets.record import ASKED, LayerSensitivity, Sensitivity
from mono_quant.targets.target import Metric
from mono_quant.targets.trial import Trial

__all__ = ["rank"]


def rank(trial: Trial, plan: Plan, metric: Metric | None, batches: int) -> Sensitivity:
    """The layers of a trial, the most sensitive first.

    Args:
        trial: of the model.
        plan: what is quantized, and how.
        metric: of the user; None to rank by SQNR.
        batches: how many there are in the trial.

    Raises:
        CalibrationError: when there is no metric, and the output holds no float tensors.
    """
    entries = {entry.name: entry for entry in plan.entries}
    found = []
    for name in trial.layers:
        alone = {name: ASKED}
        found.append(
            LayerSensitivity(
                name=name,
                layer_type=entries[name].layer_type,
                sqnr_db=trial.sqnr_db(alone) if metric is None or trial.has_float_outputs else None,
                metric=None if metric is None else measured(metric, trial.choose(alone)),
                float_bytes=entries[name].parameter_bytes,
                quantized_bytes=plan.layers[name].quantized_bytes,
            )
        )
    return Sensitivity(
        layers=tuple(sorted(found, key=lambda layer: (layer.sqnr_db or 0.0) if layer.metric is None else layer.metric)),
        metric=None if metric is None else measured(metric, trial.choose({})),
        batches=batches,
    )
