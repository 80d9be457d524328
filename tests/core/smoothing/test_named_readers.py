"""Who reads a norm, said by the user where watching does not tell."""

import pytest
import torch
from outlier_nets import WIDTH, Block, PostNorm, outliers, rows
from torch import Tensor, nn

from mono_quant import Quantizer
from mono_quant.errors import ConfigurationError, PluginError
from mono_quant.result import QuantizationResult

READERS = {"norm": ["up", "gate"]}


class Reshaped(Block):
    """The layers read another tensor than the norm gave, of the same numbers."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x).flatten(0, 1) + 0
        return x + self.down(torch.sigmoid(self.gate(y)) * self.up(y)).unflatten(0, x.shape[:2])


def quantized(net: nn.Module, readers: object, algorithm: str = "smoothquant") -> QuantizationResult:
    scheme = "int8-static" if algorithm == "smoothquant" else {"name": "int4-weight-only", "group_size": 16}
    return Quantizer(
        scheme, algorithms=[{"name": algorithm, "readers": readers}], show_progress=False, validators=(),
        exclude=["down"] if algorithm == "awq" else (),
    ).quantize(net, rows())  # fmt: skip


@pytest.mark.parametrize("algorithm", ["smoothquant", "awq"])
def test_the_norm_takes_the_factor_of_the_readers_that_are_named(algorithm: str):
    net = outliers(Reshaped(nn.LayerNorm(WIDTH)))
    assert ("norm", "up", "gate") not in [one.layers for one in quantized(net, None, algorithm).plan.rewrites]
    result = quantized(net, READERS, algorithm)
    assert ("norm", "up", "gate") in [rewrite.layers for rewrite in result.plan.rewrites]
    assert not hasattr(result.model.up, "input_factor")


def test_readers_of_which_one_is_left_out_are_found_out():
    net = outliers(PostNorm(nn.LayerNorm(WIDTH)))  # its output is read past them
    with pytest.raises(PluginError, match="after the rewrites of smoothquant the float model gives another output"):
        quantized(net, READERS)


@pytest.mark.parametrize(
    ("readers", "match"),
    [
        ({"norm": ["up", "door"]}, "readers name 'door', which the model has not"),
        ({"nrom": ["up"]}, "readers name 'nrom', which the model has not"),
        ({"norm": ["up", "down"]}, "'norm' cannot take a factor for 'up', 'down'"),
        ({"up": ["gate"]}, "'up' cannot take a factor for 'gate'"),
        ({"norm": "up"}, "readers must be modules by name"),
        ({"norm": []}, "readers must be modules by name"),
        (["norm"], "readers must be modules by name"),
    ],
    ids=["no such reader", "no such module", "other width", "no place", "a name", "nobody", "a list"],
)
def test_names_that_cannot_be_meant_are_refused(readers: object, match: str):
    with pytest.raises(ConfigurationError, match=match):
        quantized(outliers(Reshaped(nn.LayerNorm(WIDTH))), readers)
