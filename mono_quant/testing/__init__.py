"""The kit for plugin authors: one conformance suite for each kind of component, with models and data that are hard.

Derive a class from a suite in a test file of yours, say how your component is made, and run pytest:

    from mono_quant.testing import ObserverSuite
    from mono_quant_spread import SpreadObserver

    class TestSpread(ObserverSuite):
        def make(self, **common):
            return SpreadObserver(k=3, **common)

Class attributes declare what the component does not promise, each with its meaning in the suite. Needs the extra
``mono-quant[testing]``.
"""

import pytest

_SUITES = (
    "algorithms",
    "folders",
    "formats",
    "kernels",
    "observers",
    "programs",
    "refinements",
    "runtimes",
    "schemes",
    "sources",
    "validators",
)
pytest.register_assert_rewrite(*(f"mono_quant.testing.{name}" for name in _SUITES))

from mono_quant.testing.algorithms import AlgorithmSuite  # noqa: E402 - only what comes after can be rewritten
from mono_quant.testing.folders import FolderFormatSuite  # noqa: E402
from mono_quant.testing.formats import FormatSuite  # noqa: E402
from mono_quant.testing.kernels import KernelSuite  # noqa: E402
from mono_quant.testing.observers import ObserverSuite  # noqa: E402
from mono_quant.testing.programs import ProgramFormatSuite  # noqa: E402
from mono_quant.testing.refinements import RefinementSuite  # noqa: E402
from mono_quant.testing.runtimes import RuntimeSuite  # noqa: E402
from mono_quant.testing.schemes import SchemeSuite  # noqa: E402
from mono_quant.testing.sources import SourceSuite  # noqa: E402
from mono_quant.testing.validators import ValidatorSuite  # noqa: E402

__all__ = [
    "AlgorithmSuite",
    "FolderFormatSuite",
    "FormatSuite",
    "KernelSuite",
    "ObserverSuite",
    "ProgramFormatSuite",
    "RefinementSuite",
    "RuntimeSuite",
    "SchemeSuite",
    "SourceSuite",
    "ValidatorSuite",
]
