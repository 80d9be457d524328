"""A model large enough that torch uses two threads for it, and all that is to give the same bytes on one and on two.

Run as a script it writes them: ``python threaded.py THREADS FOLDER``.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mono_quant import Quantizer
from mono_quant.io import save_statistics

__all__ = ["RUNS"]

OBSERVERS = ("minmax", "absmax", "moving-average", "percentile", "mse", "histogram")
INT4 = {"name": "int4-weight-only", "misfit": "adjust"}
PER_TENSOR = {"name": "int8-weight-only", "granularity": "per-tensor"}
RUNS: dict[str, dict[str, Any]] = {
    **{name: {"observer": name} for name in OBSERVERS},
    "entropy": {"observer": {"name": "histogram", "search": "entropy"}},
    "int4": {"scheme": INT4, "algorithms": []},
    "bn-fold": {"scheme": INT4},
    "smoothquant": {"algorithms": ["bn-fold", "smoothquant"]},
    "bias-correction": {"algorithms": ["bn-fold", "bias-correction"]},
    "equalization": {"scheme": PER_TENSOR, "algorithms": ["bn-fold", "cross-layer-equalization"]},
    "gptq": {"scheme": INT4, "algorithms": ["bn-fold", "gptq"]},
    "adaround": {"scheme": INT4, "algorithms": ["bn-fold", {"name": "adaround", "iterations": 50}]},
    "hqq": {"scheme": INT4, "algorithms": ["bn-fold", "hqq"]},
    "hqq of whole weights": {
        "scheme": {"name": "int4-weight-only", "granularity": "per-tensor"},
        "algorithms": ["bn-fold", "hqq"],
    },
    "awq": {"scheme": INT4, "algorithms": ["bn-fold", "awq"]},
    "several": {"algorithms": ["bn-fold", "smoothquant", "gptq", "bias-correction"]},
}


class Net(nn.Module):
    """Convolutions, attention and linear layers of 512 features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.next = (
            nn.Conv2d(3, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.Conv2d(32, 32, 3, padding=1),
        )
        self.proj, self.norm = nn.Linear(512, 512), nn.LayerNorm(512)
        self.attention = nn.MultiheadAttention(512, 8, batch_first=True)
        self.up, self.down = nn.Linear(512, 512), nn.Linear(512, 512)
        self.bn.running_mean.normal_()
        self.bn.running_var.uniform_(0.5, 2)
        nn.init.uniform_(self.bn.weight, 0.2, 3)
        nn.init.constant_(self.norm.weight[7], 30.0)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 3, 64, 16) → (N, 64, 512)``."""
        x = self.next(self.bn(self.conv(x)).relu()).relu()
        x = self.proj(x.permute(0, 2, 1, 3).flatten(2))
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.down(self.up(self.norm(x)).relu())


def main(threads: int, folder: Path) -> None:
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(1)
    data = [torch.randn(8, 3, 64, 16, generator=generator) for _ in range(2)]
    torch.manual_seed(0)
    model = Net()
    for name, options in RUNS.items():
        result = Quantizer(show_progress=False, validators=["sqnr", "size"], **options).quantize(model, data)
        result.save(folder / f"{name}.safetensors")
        save_statistics(result.statistics, folder / f"{name}.statistics")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
