"""Who reads a norm, said by the user where watching does not tell."""

import pytest
import torch
from outlier_nets import WIDTH, Block, PostNorm, ShiftedNorm, outliers, rows
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


class Many(Reshaped):
    """With layers that cannot be meant."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__(norm)
        self.act, self.table = nn.PReLU(WIDTH), nn.Embedding(WIDTH, WIDTH)
        self.kept, self.idle, self.hooked = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.tied, self.other = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.tied.weight = self.other.weight
        self.hooked.register_forward_pre_hook(lambda *_: None)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.hooked(self.tied(x) + self.other(x)) + self.kept(x) + self.idle(x * 0))


def quantized(net: nn.Module, readers: object, algorithm: str = "smoothquant") -> QuantizationResult:
    scheme = "int8-static" if algorithm == "smoothquant" else {"name": "int4-weight-only", "group_size": 16}
    return Quantizer(
        scheme, algorithms=[{"name": algorithm, "readers": readers}], show_progress=False, validators=(),
        exclude=["down"] if algorithm == "awq" else ["kept"] if hasattr(net, "kept") else (),
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
        (
            {"norm": ["up", "down"]},
            "'norm' cannot take a factor for 'up', 'down': it gives 16 channels, and they take 16, 24",
        ),
        ({"act": ["up"]}, "the output of 'act', tried on a part of its input, is not multiplied with its weight"),
        ({"table": ["up"]}, "'table' is no norm that has a weight, and no linear layer"),
        ({"norm": ["up", "act"]}, "'act' is no plain nn.Linear"),
        ({"norm": ["up", "kept"]}, "'kept' is not quantized"),
        ({"norm": ["up", "idle"]}, "'idle' was given no data"),
        ({"norm": ["up", "tied"]}, "'tied' shares its weight"),
        ({"norm": ["up", "hooked"]}, "'hooked' has hooks"),
        ({"norm": "up"}, "readers must be modules by name"),
        ({"norm": []}, "readers must be modules by name"),
        ({"norm": ["up", "gate", "up"]}, "each once"),
        (["norm"], "readers must be modules by name"),
        ([], "readers must be modules by name"),
    ],
)
def test_names_that_cannot_be_meant_are_refused(readers: object, match: str):
    with pytest.raises(ConfigurationError, match=match):
        quantized(outliers(Many(nn.LayerNorm(WIDTH))), readers)


def test_a_norm_whose_output_does_not_go_with_its_weight_is_refused():
    with pytest.raises(ConfigurationError, match="tried on a part of its input, is not multiplied with its weight"):
        quantized(outliers(Reshaped(ShiftedNorm(WIDTH))), READERS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_reader_that_was_seen_and_not_named_is_named(dtype: torch.dtype):
    net = outliers(Block(nn.LayerNorm(WIDTH))).to(dtype)
    scheme = Quantizer(algorithms=[{"name": "smoothquant", "readers": {"norm": ["up"]}}], show_progress=False)
    with pytest.raises(ConfigurationError, match="'gate' read 'norm' too: name them among its readers"):
        scheme.quantize(net, [x.to(dtype) for x in rows()])


class Branching(Reshaped):
    """A row of another length goes another way, which nobody has named."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__(norm)
        self.other = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.shape[1] == 7 else x + self.other(self.norm(x).flatten(0, 1) + 0).view_as(x)


def test_a_reader_that_only_a_later_batch_runs_is_found_out():
    net = outliers(Branching(nn.LayerNorm(WIDTH)))
    quantizer = Quantizer(
        algorithms=[{"name": "smoothquant", "readers": READERS}], show_progress=False, exclude=["other"]
    )
    with pytest.raises(PluginError, match="name all readers of each module and no others"):
        quantizer.quantize(net, [*rows(), torch.randn(2, 3, WIDTH)])
    quantizer.quantize(net, rows())
