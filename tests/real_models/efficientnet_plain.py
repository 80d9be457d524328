"""The same EfficientNet-Lite0 with its padding before plain Conv2d, which static int8 knows: 49, each with BatchNorm.

The figures are those of `efficientnet`, and so are the data.
"""

from torch import nn

from . import efficientnet
from .efficientnet import calibration, example, held_back, score

__all__ = ["calibration", "example", "held_back", "load", "score"]


def load() -> nn.Module:
    """Each Conv2d that pads in its ``forward`` becomes the padding and a Conv2d."""
    model = efficientnet.load()
    padding = {name: module for name, module in model.named_modules() if hasattr(module, "static_padding")}
    for name, module in padding.items():
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, nn.Sequential(module.static_padding, _plain(module)))
    return model


def _plain(layer: nn.Conv2d) -> nn.Conv2d:
    plain = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        dilation=layer.dilation,
        groups=layer.groups,
        bias=layer.bias is not None,
    )
    plain.load_state_dict({name: tensor for name, tensor in layer.state_dict().items() if "padding" not in name})
    return plain
