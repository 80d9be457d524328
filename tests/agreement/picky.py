"""A format that refuses layers, and models that it is asked about."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from mono_quant import Quantizer
from mono_quant.io.safetensors_format import SafetensorsFormat
from mono_quant.plugin_api import FormatSpec, LayerPlan, hookimpl

__all__ = ["DATA", "ROWS", "Model", "Picky", "Scaled", "Untouched", "quantizer"]


class Picky(SafetensorsFormat):
    """Holds no convolutions, and no quantized inputs in layers of the same parent, unless all have them."""

    def refusals(self, layers: Mapping[str, LayerPlan], kept: Collection[str] = ()) -> Mapping[str, str]:
        del kept
        refused = {name: "convolutions have no place in it" for name, one in layers.items() if "Conv" in one.layer_type}
        pair = [layers.get("pair.0"), layers.get("pair.1")]
        if any(pair) and not all(pair):
            refused |= {name: "it stands alone" for name in ("pair.0", "pair.1") if name in layers}
        return refused


class _Plugin:
    @hookimpl
    def mono_quant_formats(self) -> list[FormatSpec]:
        return [FormatSpec(name="picky", summary="as a test says", factory=Picky, suffixes=(".picky",))]


def quantizer(**options: object) -> Quantizer:
    """One whose models are to be saved in the format."""
    return Quantizer(
        **{"format": "picky", "plugins": [_Plugin()], "show_progress": False, "on_failure": "ignore", **options}
    )


class Model(nn.Module):
    """A convolution, a pair of layers, and one more."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.pair = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).mean((2, 3))
        return self.head(self.pair[0](x) + self.pair[1](x))


DATA = [torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
"""For `Model`."""


class Scaled(nn.Module):
    """Two layers that read one tensor with an outlier, which a function makes: a factor of their own helps them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.other, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)
        self.register_buffer("sizes", torch.tensor([300.0, *[1.0] * 7]))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(x) * self.sizes
        return self.head(torch.tanh(self.one(x) + self.other(x)))


ROWS = [torch.randn(64, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
"""For `Scaled`."""


class Untouched:
    """Data that must not be asked for."""

    def __iter__(self) -> None:
        raise AssertionError("data was read")
