"""As much quantized as a target allows: which layers cost what, and which are given more bits or kept in float."""

from mono_quant.targets.rank import rank
from mono_quant.targets.reach import confirm, reach
from mono_quant.targets.record import Evaluation, Found, LayerSensitivity, Sensitivity
from mono_quant.targets.target import MaxDrop, MaxSize, Metric, MinSQNR, Target
from mono_quant.targets.trial import Trial
from mono_quant.targets.ways import Ways, as_overrides, label

__all__ = [
    "Evaluation",
    "Found",
    "LayerSensitivity",
    "MaxDrop",
    "MaxSize",
    "Metric",
    "MinSQNR",
    "Sensitivity",
    "Target",
    "Trial",
    "Ways",
    "as_overrides",
    "confirm",
    "label",
    "rank",
    "reach",
]
