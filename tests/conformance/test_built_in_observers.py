"""The observers that the package ships keep the contract that third parties are held to."""

from mono_quant.core.observers import MinMaxObserver
from mono_quant.testing import ObserverSuite


class TestMinMax(ObserverSuite):
    def make(self, **common: object) -> MinMaxObserver:
        return MinMaxObserver(**common)
