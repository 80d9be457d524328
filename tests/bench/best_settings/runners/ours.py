"""mono_quant, by the kernel that adds no rounding of its own."""

from collections import Counter
from collections.abc import Mapping

from torch import nn

from mono_quant import Quantizer
from mono_quant.plugin_api import Batch

from ..contenders import Built
from ..models import Inputs, Model

__all__ = ["build"]


def build(
    _model: Model,
    module: nn.Module,
    calibration: list[Inputs],
    *,
    observer: Mapping[str, object],
    algorithms: tuple[str, ...],
    saturation: str | None,
) -> Built:
    """Without the checks that compare it with float."""
    quantizer = Quantizer(
        {"name": "int8-static", **({"saturation": saturation} if saturation else {})},
        observer=observer,
        algorithms=("bn-fold", *algorithms),
        kernel="onednn",
        validators=(),
        show_progress=False,
    )
    result = quantizer.quantize(module, [Batch(args=inputs) for inputs in calibration])
    rewrites = Counter(rewrite.algorithm for rewrite in result.plan.rewrites)
    counts = [f"{len(result.plan.layers)} layers", *(f"{count} {name}" for name, count in rewrites.items())]
    return Built(lambda inputs: result.model(*inputs), ", ".join(counts))
