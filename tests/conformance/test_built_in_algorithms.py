"""The same for algorithms."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mono_quant.core.adaround import AdaRound
from mono_quant.core.awq import AWQ
from mono_quant.core.batchnorm import BatchNormFold
from mono_quant.core.bias import BiasCorrection
from mono_quant.core.equalization import CrossLayerEqualization
from mono_quant.core.gptq import GPTQ
from mono_quant.core.hqq import HQQ
from mono_quant.core.smoothing import SmoothQuant
from mono_quant.testing import AlgorithmSuite, RefinementSuite
from mono_quant.testing.models import batches, small_net


def norm(layer: nn.Module) -> nn.Module:
    """A BatchNorm that has seen data."""
    layer.running_mean.normal_()
    layer.running_var.uniform_(0.5, 2)
    nn.init.uniform_(layer.weight, 0.5, 2)
    return layer


class ReadTwice(nn.Module):
    """The convolution's output goes to the BatchNorm and past it: not foldable."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv1d(3, 4, 3), norm(nn.BatchNorm1d(4)), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.head((self.norm(y) + y).flatten(1))


class TestBatchNormFold(AlgorithmSuite):
    name = "bn-fold"

    def make(self) -> BatchNormFold:
        return BatchNormFold()

    def models(self) -> Mapping[str, tuple[nn.Module, Sequence[Any]]]:
        torch.manual_seed(0)
        images = [torch.randn(3, 2, 6, 6) for _ in range(3)]
        conv = nn.Sequential(
            nn.Conv2d(2, 4, 3, bias=False), norm(nn.BatchNorm2d(4)), nn.ReLU(),
            nn.Conv2d(4, 4, 3, groups=4), norm(nn.BatchNorm2d(4)),
        ).eval()  # fmt: skip
        linear = nn.Sequential(nn.Linear(5, 4), norm(nn.BatchNorm1d(4))).eval()
        return {
            "small-net": (small_net(), batches()),
            "convolutions": (conv, images),
            "linear": (linear, [torch.randn(6, 5) for _ in range(2)]),
        }

    def other_models(self) -> Mapping[str, tuple[nn.Module, Sequence[Any]]]:
        torch.manual_seed(0)
        before = nn.Sequential(norm(nn.BatchNorm1d(5)), nn.Linear(5, 4)).eval()
        return {
            "read twice": (ReadTwice().eval(), [torch.randn(3, 3, 4) for _ in range(2)]),
            "norm before": (before, [torch.randn(6, 5) for _ in range(2)]),
        }


class Encoder(nn.Module):
    """A norm that only layers read, then one that is read past them too; both give outliers."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 12), nn.Linear(12, 8)
        self.after, self.head = nn.LayerNorm(8), nn.Linear(8, 8)
        with torch.no_grad():
            for one in (self.before, self.after):
                one.weight.uniform_(0.5, 2)
                one.weight[2] *= 50
                one.bias.normal_()

    def forward(self, x: Tensor) -> Tensor:
        y = self.after(x + self.down(self.up(self.before(x)).relu()))
        return y + self.head(y)


class TestSmoothQuant(AlgorithmSuite):
    name = "smoothquant"

    def make(self) -> SmoothQuant:
        return SmoothQuant()

    def models(self) -> Mapping[str, tuple[nn.Module, Sequence[Any]]]:
        torch.manual_seed(0)
        return {"encoder": (Encoder().eval(), [torch.randn(6, 5, 8) for _ in range(3)])}

    def other_models(self) -> Mapping[str, tuple[nn.Module, Sequence[Any]]]:
        torch.manual_seed(0)
        return {"convolution": (ReadTwice().eval(), [torch.randn(3, 3, 4) for _ in range(2)]), **super().other_models()}


class TestAWQ(AlgorithmSuite):
    name = "awq"
    scheme: ClassVar[Any] = {"name": "int4-weight-only", "group_size": 8, "misfit": "pad"}

    def make(self) -> AWQ:
        return AWQ()

    def models(self) -> Mapping[str, tuple[nn.Module, Sequence[Any]]]:
        torch.manual_seed(0)
        layers = [nn.LayerNorm(8), nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 16), nn.Linear(16, 6)]
        chain = nn.Sequential(*layers).eval()
        with torch.no_grad():
            for layer in (chain[0], chain[1], chain[3]):
                layer.weight[2] *= 50
        return {
            "encoder": (Encoder().eval(), [torch.randn(6, 5, 8) for _ in range(3)]),
            "a chain": (chain, [torch.randn(16, 8) for _ in range(3)]),
        }

    def other_models(self) -> Mapping[str, tuple[nn.Module, Sequence[Any]]]:
        torch.manual_seed(0)
        return {"convolution": (ReadTwice().eval(), [torch.randn(3, 3, 4) for _ in range(2)]), **super().other_models()}


def mixed(*shape: int) -> Tensor:
    """Rows in few directions and a little noise."""
    count = torch.Size(shape[1:]).numel()
    return (torch.randn(shape[0], 3) @ torch.randn(3, count) + 0.1 * torch.randn(shape[0], count)).reshape(shape)


def code_choosing_cases() -> Mapping[str, tuple[Any, nn.Module, Sequence[Any]]]:
    """Layers, and data by which other codes than the nearest are better."""
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 8)).eval()
    conv = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, groups=2), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    rows, images = [mixed(32, 24) for _ in range(3)], [mixed(4, 4, 8, 8) for _ in range(3)]
    int3 = {"name": "int3-weight-only", "group_size": 16, "misfit": "pad"}
    int4 = {"name": "int4-weight-only", "granularity": "per-channel", "symmetric": True}
    return {
        "int3 linear": (int3, linear, rows), "int4 linear": (int4, linear, rows),
        "static linear": ("int8-static", linear, rows), "dynamic linear": ("int8-dynamic", linear, rows),
        "int4 convolutions": (int4, conv, images), "static convolutions": ("int8-static", conv, images),
    }  # fmt: skip


class TestGPTQ(RefinementSuite):
    name = "gptq"

    def make(self) -> GPTQ:
        return GPTQ()

    def cases(self) -> Mapping[str, tuple[Any, nn.Module, Sequence[Any]]]:
        return code_choosing_cases()


class TestAdaRound(RefinementSuite):
    name = "adaround"

    def make(self) -> AdaRound:
        return AdaRound()

    def cases(self) -> Mapping[str, tuple[Any, nn.Module, Sequence[Any]]]:
        return code_choosing_cases()


class TestHQQ(RefinementSuite):
    name = "hqq"
    needs_data = False
    slack = 0.1  # it does not look at the data

    def make(self) -> HQQ:
        return HQQ()

    def cases(self) -> Mapping[str, tuple[Any, nn.Module, Sequence[Any]]]:
        torch.manual_seed(0)
        linear = nn.Sequential(nn.Linear(96, 64), nn.ReLU(), nn.Linear(64, 48)).eval()
        conv = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1, groups=2), nn.ReLU(), nn.Conv2d(16, 12, 3)).eval()
        rows, images = [torch.randn(64, 96) for _ in range(3)], [torch.randn(4, 8, 8, 8) for _ in range(3)]
        int3 = {"name": "int3-weight-only", "group_size": 40, "misfit": "pad"}
        int2 = {"name": "int2-weight-only", "granularity": "per-channel"}
        int4 = {"name": "int4-weight-only", "granularity": "per-tensor"}
        for layer in (linear[0], linear[2], conv[0], conv[2]):
            nn.init.normal_(layer.weight, std=0.1)  # as training leaves them: most are small
        return {
            "int3 linear": (int3, linear, rows), "int2 linear": (int2, linear, rows),
            "int3 convolutions": (int3, conv, images), "int4 convolutions": (int4, conv, images),
        }  # fmt: skip


class TestBiasCorrectionAsARefinement(RefinementSuite):
    name = "bias-correction"

    def make(self) -> BiasCorrection:
        return BiasCorrection()

    def cases(self) -> Mapping[str, tuple[Any, nn.Module, Sequence[Any]]]:
        torch.manual_seed(0)
        linear = nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 8)).eval()
        conv = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, groups=2), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
        rows, images = [torch.rand(64, 24) for _ in range(4)], [torch.rand(8, 4, 8, 8) for _ in range(4)]
        int3 = {"name": "int3-weight-only", "granularity": "per-channel"}
        return {"int3 linear": (int3, linear, rows), "int3 convolutions": (int3, conv, images)}


class TestBiasCorrection(AlgorithmSuite):
    name = "bias-correction"

    def make(self) -> BiasCorrection:
        return BiasCorrection()

    def models(self) -> Mapping[str, tuple[nn.Module, Sequence[Any]]]:
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4, bias=False), nn.ReLU(),
            nn.Flatten(), nn.Linear(64, 5, bias=False),
        ).eval()  # fmt: skip
        return {"without biases": (net, [torch.rand(4, 3, 6, 6) for _ in range(3)])}

    def other_models(self) -> Mapping[str, tuple[nn.Module, Sequence[Any]]]:
        torch.manual_seed(0)
        return {"encoder": (Encoder().eval(), [torch.randn(6, 5, 8) for _ in range(3)]), **super().other_models()}


def uneven(layer: nn.Module) -> nn.Module:
    """Output channels whose ranges differ a thousandfold."""
    with torch.no_grad():
        channels = layer.weight.shape[0]
        layer.weight.mul_(torch.logspace(-1.5, 1.5, channels).reshape(-1, *[1] * (layer.weight.ndim - 1)))
    return layer


class TestCrossLayerEqualization(AlgorithmSuite):
    name = "cross-layer-equalization"

    def make(self) -> CrossLayerEqualization:
        return CrossLayerEqualization()

    def models(self) -> Mapping[str, tuple[nn.Module, Sequence[Any]]]:
        torch.manual_seed(0)
        conv = nn.Sequential(
            uneven(nn.Conv2d(3, 8, 3, padding=1)), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, groups=8), nn.PReLU(8),
            nn.MaxPool2d(2), nn.Conv2d(8, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
        ).eval()  # fmt: skip
        linear = nn.Sequential(uneven(nn.Linear(12, 16)), nn.LeakyReLU(), nn.Linear(16, 5)).eval()
        return {
            "convolutions": (conv, [torch.rand(4, 3, 8, 8) for _ in range(3)]),
            "linear": (linear, [torch.randn(6, 12) for _ in range(3)]),
        }

    def other_models(self) -> Mapping[str, tuple[nn.Module, Sequence[Any]]]:
        torch.manual_seed(0)
        clipped = nn.Sequential(uneven(nn.Linear(12, 16)), nn.ReLU6(), nn.Linear(16, 5)).eval()
        return {"clipped": (clipped, [torch.randn(6, 12) * 9 for _ in range(3)]), **super().other_models()}
