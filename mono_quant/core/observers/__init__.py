"""The observers that the package ships: each finds a range from the data that passes a layer, one a file."""

from mono_quant.core.observers.absmax import AbsMaxObserver
from mono_quant.core.observers.histogram import HistogramObserver
from mono_quant.core.observers.minmax import MinMaxObserver
from mono_quant.core.observers.moving_average import MovingAverageObserver
from mono_quant.core.observers.mse import MSEObserver
from mono_quant.core.observers.percentile import PercentileObserver

__all__ = [
    "AbsMaxObserver",
    "HistogramObserver",
    "MSEObserver",
    "MinMaxObserver",
    "MovingAverageObserver",
    "PercentileObserver",
]
