"""Who quantizes, and with which settings."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, cast

import attrs
from torch import nn

from .models import Inputs, Model
from .rows import Row, best

__all__ = ["ALGORITHMS", "OBSERVERS", "Contender", "asked", "contender"]

OBSERVERS: dict[str, Mapping[str, object]] = {
    "minmax": {"name": "minmax"},
    "moving-average": {"name": "moving-average"},
    "percentile": {"name": "percentile"},
    "mse": {"name": "mse"},
    "histogram-l2": {"name": "histogram", "search": "l2"},
    "histogram-entropy": {"name": "histogram", "search": "entropy"},
}

ALGORITHMS: dict[str, tuple[str, ...]] = {
    "none": (),
    "bias-correction": ("bias-correction",),
    "smoothquant": ("smoothquant",),
    "cross-layer-equalization": ("cross-layer-equalization",),
    "smoothquant + bias-correction": ("smoothquant", "bias-correction"),
    "cross-layer-equalization + bias-correction": ("cross-layer-equalization", "bias-correction"),
}
"""Each after ``bn-fold``, which every run has."""

_FULL_RANGE = "full-range"


@attrs.frozen
class Contender:
    """One of them.

    Its file in `runners` is imported only where it is measured: it imports what may not be installed.

    Args:
        name: for the command line and the page.
        file: in the folder `runners`.
        options: for the file's ``build``.
    """

    name: str
    file: str
    options: Mapping[str, object] = attrs.field(factory=dict)

    @property
    def is_ours(self) -> bool:
        """Whether it is mono_quant."""
        return self.file == "ours"

    def load(self) -> Callable[..., "Built"]:
        """Its file's ``build``: a model, its float module and calibration batches → a call and what it is made of."""
        return cast("Callable[..., Built]", import_module(f".runners.{self.file}", __package__).build)

    def build(self, model: Model, module: nn.Module, calibration: list[Inputs]) -> "Built":
        """What it makes of a model, which is left as it is."""
        return self.load()(model, module, calibration, **self.options)


@attrs.frozen
class Built:
    """What a contender makes of a model.

    Args:
        call: inputs → what the model returns, tensors.
        details: a few words about what was done.
    """

    call: Callable[[Inputs], Any]
    details: str = ""


def _ours(observer: str, algorithms: str, *more: str) -> Contender:
    return Contender(
        " / ".join(("ours", observer, algorithms, *more)),
        "ours",
        {
            "observer": OBSERVERS[observer],
            "algorithms": ALGORITHMS[algorithms],
            "saturation": _FULL_RANGE if _FULL_RANGE in more else None,
        },
    )


_PEERS = (
    Contender("nncf", "nncf_openvino"),
    Contender("nncf mixed, accurate bias", "nncf_openvino", {"is_best": True}),
    Contender("torchao-pt2e", "torchao_pt2e"),
    Contender("torchao-pt2e minmax", "torchao_pt2e", {"observer": "minmax"}),
    Contender("onnxruntime", "onnxruntime_static"),
    Contender("onnxruntime per-channel", "onnxruntime_static", {"per_channel": True}),
    Contender("onnxruntime per-channel, entropy", "onnxruntime_static", {"per_channel": True, "method": "Entropy"}),
    Contender(
        "onnxruntime per-channel, percentile", "onnxruntime_static", {"per_channel": True, "method": "Percentile"}
    ),
)
_OF_TRANSFORMERS = (
    Contender("nncf transformer", "nncf_openvino", {"is_told": True}),
    Contender(
        "onnxruntime per-channel, MatMul only",
        "onnxruntime_static",
        {"per_channel": True, "operators": ("MatMul", "Gemm")},
    ),
)


def asked(model: Model, rows: list[Row]) -> list[Contender]:
    """All that are to be measured, as far as the rows that are there already say which.

    Every observer without algorithms and every set of algorithms with ``minmax``; then the best set with every
    observer, and the best observer with every set; then the best of all with the full range of weights.
    """
    if not model.has_contenders:
        return []
    edges = [*(_ours(one, "none") for one in OBSERVERS), *(_ours("minmax", one) for one in ALGORITHMS)]
    known = {row.contender: row for row in rows if row.model == model.name and row.is_measured}
    if all(one.name in known for one in edges):
        _, _, algorithms = best([known[_ours("minmax", one).name] for one in ALGORITHMS]).contender.split(" / ")
        _, observer, _ = best([known[_ours(one, "none").name] for one in OBSERVERS]).contender.split(" / ")
        edges += [*(_ours(one, algorithms) for one in OBSERVERS), *(_ours(observer, one) for one in ALGORITHMS)]
        if all(one.name in known for one in edges):
            _, *settings = best([known[one.name] for one in edges]).contender.split(" / ")
            edges += [_ours(*settings, _FULL_RANGE), _ours("minmax", "none", _FULL_RANGE)]
    peers = (*_PEERS, *_OF_TRANSFORMERS) if model.is_transformer else _PEERS
    return list({one.name: one for one in (*edges, *peers)}.values())


def contender(name: str) -> Contender:
    """The one of that name.

    Raises:
        StopIteration: when there is none.
    """
    if name.startswith("ours / "):
        return _ours(*name.split(" / ")[1:])
    return next(one for one in (*_PEERS, *_OF_TRANSFORMERS) if one.name == name)
