"""What quantizing may cost: the bounds of each figure, for the models and schemes that are tested.

They leave some room from what was measured (docs/reference/accuracy.md): 1 dB of SQNR, 0.003 of the share, and as much
of a figure as other kernels and CPUs may take, since some count photos or pairs. A scheme that got worse shows.
"""

from collections.abc import Mapping
from typing import Self

import attrs

__all__ = ["BANDS", "LESS_IS_BETTER", "Band"]

LESS_IS_BETTER = {"equal_error_rate", "median_cents", "perplexity", "relative_error"}
"""Figures that are bounded from above; the others are from below."""


@attrs.frozen
class Band:
    """Bounds.

    Args:
        sqnr_db: of the output on the batch held back, at least.
        share: of the float file, at most.
        figures: of the task: see `LESS_IS_BETTER`.
    """

    sqnr_db: float
    share: float
    figures: Mapping[str, float]

    @classmethod
    def of(cls, sqnr_db: float, share: float, **figures: float) -> Self:
        """In one line."""
        return cls(sqnr_db, share, figures)


BANDS: Mapping[str, Mapping[str, Band]] = {
    "minilm": {
        "int8-static": Band.of(14.8, 0.649, lee_pearson=0.636, wordsim_spearman=0.698, cosine=0.989),
        "int8-dynamic": Band.of(15.4, 0.649, lee_pearson=0.636, wordsim_spearman=0.71, cosine=0.99),
        "int8-dynamic per-token": Band.of(20.4, 0.649, lee_pearson=0.633, wordsim_spearman=0.708, cosine=0.994),
        "int8-weight-only": Band.of(26.4, 0.257, lee_pearson=0.636, wordsim_spearman=0.709, cosine=0.998),
        "int4-weight-only": Band.of(8.7, 0.139, lee_pearson=0.627, wordsim_spearman=0.695, cosine=0.923),
        "int4-weight-only symmetric": Band.of(6.9, 0.137, lee_pearson=0.627, wordsim_spearman=0.706, cosine=0.88),
        "int3-weight-only": Band.of(2.2, 0.108, lee_pearson=0.627, wordsim_spearman=0.662, cosine=0.699),
        "float8-weight-only": Band.of(22.8, 0.257, lee_pearson=0.634, wordsim_spearman=0.713, cosine=0.996),
        "float16": Band.of(64.3, 0.504, lee_pearson=0.636, wordsim_spearman=0.708, cosine=0.999),
        "bfloat16": Band.of(46.6, 0.504, lee_pearson=0.636, wordsim_spearman=0.709, cosine=0.999),
    },
    "smollm2": {
        "int8-static": Band.of(1.9, 0.413, perplexity=105.0, agreement=0.46),
        "int8-dynamic per-token": Band.of(14.5, 0.412, perplexity=45.6, agreement=0.762),
        "int8-weight-only": Band.of(25.3, 0.255, perplexity=44.3, agreement=0.924),
        "int4-weight-only": Band.of(6.3, 0.141, perplexity=94.5, agreement=0.407),
        "float8-weight-only": Band.of(21.6, 0.255, perplexity=45.3, agreement=0.861),
        "bfloat16": Band.of(46.6, 0.503, perplexity=44.0, agreement=0.967),
    },
    "efficientnet": {
        "int8-static": Band.of(34.8, 0.8, top1=0.858, agreement=0.97, relative_error=0.0199),
        "int8-dynamic": Band.of(36.0, 0.8, top1=0.858, agreement=0.97, relative_error=0.0178),
        "int8-dynamic per-token": Band.of(35.2, 0.8, top1=0.858, agreement=0.961, relative_error=0.0207),
        "int8-weight-only": Band.of(24.0, 0.274, top1=0.85, agreement=0.945, relative_error=0.123),
        "float8-weight-only": Band.of(13.4, 0.274, top1=0.899, agreement=0.928, relative_error=0.391),
        "float16": Band.of(55.8, 0.514, top1=0.858, agreement=0.97, relative_error=0.00349),
        "bfloat16": Band.of(35.3, 0.514, top1=0.85, agreement=0.961, relative_error=0.0303),
    },
    "efficientnet_plain": {
        "int8-static": Band.of(18.6, 0.261, top1=0.825, agreement=0.878, relative_error=0.2),
    },
    "crepe": {
        "int8-static": Band.of(35.0, 0.261, median_cents=2.94, relative_error=0.0215),
        "int8-dynamic": Band.of(41.4, 0.863, median_cents=2.93, relative_error=0.011),
        "int8-dynamic per-token": Band.of(40.8, 0.863, median_cents=2.88, relative_error=0.0106),
        "int8-weight-only": Band.of(41.3, 0.26, median_cents=2.95, relative_error=0.00864),
        "int4-weight-only": Band.of(23.9, 0.145, median_cents=2.88, relative_error=0.0681),
        "int4-weight-only symmetric": Band.of(17.4, 0.143, median_cents=3.5, relative_error=0.153),
        "int3-weight-only": Band.of(12.7, 0.114, median_cents=3.78, relative_error=0.247),
        "int2-weight-only": Band.of(5.0, 0.083, median_cents=5.25, relative_error=0.64),
        "float8-weight-only": Band.of(39.4, 0.26, median_cents=2.84, relative_error=0.0115),
        "float16": Band.of(81.7, 0.507, median_cents=2.88, relative_error=0.000219),
        "bfloat16": Band.of(63.6, 0.507, median_cents=2.87, relative_error=0.000805),
    },
    "silero": {
        "int8-static": Band.of(32.1, 0.58, accuracy=0.965, agreement=0.964),
        "int8-weight-only": Band.of(50.8, 0.266, accuracy=0.967, agreement=0.969),
        "int4-weight-only": Band.of(32.6, 0.15, accuracy=0.965, agreement=0.964),
        "int4-weight-only symmetric": Band.of(30.7, 0.147, accuracy=0.968, agreement=0.962),
        "int3-weight-only": Band.of(25.8, 0.12, accuracy=0.96, agreement=0.951),
        "int2-weight-only": Band.of(10.9, 0.089, accuracy=0.791, agreement=0.766),
        "float8-weight-only": Band.of(46.8, 0.266, accuracy=0.967, agreement=0.968),
        "float16": Band.of(88.3, 0.508, accuracy=0.967, agreement=0.97),
        "bfloat16": Band.of(64.4, 0.508, accuracy=0.967, agreement=0.969),
    },
    "resemblyzer": {
        "int8-static": Band.of(31.0, 0.969, equal_error_rate=0.141, cosine=0.998),
        "int8-dynamic": Band.of(31.1, 0.969, equal_error_rate=0.141, cosine=0.998),
        "int8-dynamic per-token": Band.of(31.2, 0.969, equal_error_rate=0.141, cosine=0.998),
        "int8-weight-only": Band.of(17.3, 0.262, equal_error_rate=0.141, cosine=0.989),
        "int4-weight-only": Band.of(5.4, 0.144, equal_error_rate=0.156, cosine=0.856),
        "int4-weight-only symmetric": Band.of(4.0, 0.141, equal_error_rate=0.177, cosine=0.805),
        "int3-weight-only": Band.of(1.7, 0.112, equal_error_rate=0.149, cosine=0.656),
        "int2-weight-only": Band.of(-1.3, 0.081, equal_error_rate=0.333, cosine=0.31),
        "float8-weight-only": Band.of(21.2, 0.262, equal_error_rate=0.14, cosine=0.995),
        "float16": Band.of(62.8, 0.506, equal_error_rate=0.141, cosine=0.999),
        "bfloat16": Band.of(44.6, 0.506, equal_error_rate=0.141, cosine=0.999),
    },
}
