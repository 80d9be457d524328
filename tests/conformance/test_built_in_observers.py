"""The observers that the package ships keep the contract that third parties are held to."""

from mono_quant.core.observers import (
    AbsMaxObserver,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageObserver,
    MSEObserver,
    PercentileObserver,
)
from mono_quant.testing import ObserverSuite


class TestMinMax(ObserverSuite):
    def make(self, **common: object) -> MinMaxObserver:
        return MinMaxObserver(**common)


class TestAbsMax(ObserverSuite):
    exceeds_data = True  # on the other side of zero

    def make(self, **common: object) -> AbsMaxObserver:
        return AbsMaxObserver(**common)


class TestMovingAverage(ObserverSuite):
    depends_on_batches = True

    def make(self, **common: object) -> MovingAverageObserver:
        return MovingAverageObserver(**common)


class TestPercentile(ObserverSuite):
    def make(self, **common: object) -> PercentileObserver:
        return PercentileObserver(**common)


class TestLowPercentile(ObserverSuite):
    def make(self, **common: object) -> PercentileObserver:
        return PercentileObserver(percentile=75, **common)


class TestMSE(ObserverSuite):
    def make(self, **common: object) -> MSEObserver:
        return MSEObserver(**common)


class TestMSEOfAWideGrid(ObserverSuite):
    def make(self, **common: object) -> MSEObserver:
        return MSEObserver(maxshrink=0.95, norm=1, bins=64, **common)


class TestHistogram(ObserverSuite):
    def make(self, **common: object) -> HistogramObserver:
        return HistogramObserver(**common)


class TestHistogramOfFewBins(ObserverSuite):
    def make(self, **common: object) -> HistogramObserver:
        return HistogramObserver(bins=3, **common)


class TestEntropy(ObserverSuite):
    def make(self, **common: object) -> HistogramObserver:
        return HistogramObserver(search="entropy", **common)
