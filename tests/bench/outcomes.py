"""What is found out about a model under the schemes."""

from collections.abc import Mapping

import attrs

__all__ = ["Outcome", "Results"]


@attrs.frozen
class Outcome:
    """One model under one scheme.

    Args:
        layers: how many are quantized.
        figures: of the task, by name.
        sqnr_db: of the output on a held-back batch.
        file_mb: of the saved model.
        kept: type and reason → how many layers with parameters stay in float for it.
    """

    layers: int
    figures: Mapping[str, float]
    sqnr_db: float
    file_mb: float
    kept: Mapping[tuple[str, str], int]


@attrs.frozen
class Results:
    """One model.

    Args:
        figures: of the float model.
        file_mb: of the float model.
        layers: how many have parameters.
        outcomes: by scheme; None where it would quantize nothing.
    """

    figures: Mapping[str, float]
    file_mb: float
    layers: int
    outcomes: Mapping[str, Outcome | None]
