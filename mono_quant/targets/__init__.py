"""As much quantized as a target allows: which layers cost what, and which are given more bits or kept in float."""

from mono_quant.targets.chosen import chosen
from mono_quant.targets.rank import rank
from mono_quant.targets.reach import Search
from mono_quant.targets.record import Evaluation, Found, LayerSensitivity, Sensitivity
from mono_quant.targets.target import MaxDrop, MaxSize, Metric, MinSQNR, Target
from mono_quant.targets.trial import Trial
from mono_quant.targets.ways import Ways, labelled

__all__ = [
    "Evaluation",
    "Found",
    "LayerSensitivity",
    "MaxDrop",
    "MaxSize",
    "Metric",
    "MinSQNR",
    "Search",
    "Sensitivity",
    "Target",
    "Trial",
    "Ways",
    "chosen",
    "labelled",
    "rank",
]
