"""Small models that a runtime must run: of every kind of quantized layer, called in every way."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mono_quant.testing.data import seeded

__all__ = ["runtime_models"]


def runtime_models() -> dict[str, tuple[nn.Module, str | Mapping[str, Any], list[Any]]]:
    """Float models in eval mode, each with a scheme and batches, by a name; made anew at each call."""
    images = [torch.randn(4, 3, 12, 12, generator=seeded(number)) for number in range(3)]
    tokens = [
        {"ids": torch.randint(50, (4, 7), generator=seeded(number)), "scale": torch.rand(4, generator=seeded(number))}
        for number in range(3)
    ]
    rows = [torch.randn(4, 12, generator=seeded(number)) for number in range(3)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        convolutions = _Convolutions().eval()
        sequences = _Sequences().eval()
        signals = nn.Sequential(nn.Unflatten(1, (3, 4)), nn.Conv1d(3, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 4))
        attention = _Attention().eval()
    per_token = {"name": "int8-dynamic", "activations": "per-token"}
    return {
        "convolutions": (convolutions, "int8-static", images),
        "signals": (signals.eval(), "int8-static", rows),
        "sequences": (sequences, "int8-static", tokens),
        "sequences, dynamic": (sequences, "int8-dynamic", tokens),
        "sequences, per token": (sequences, per_token, tokens),
        "attention": (attention, "int8-dynamic", [row.reshape(4, 3, 4) for row in rows]),
        "sequences, int8 weights": (sequences, "int8-weight-only", tokens),
        "sequences, int4 weights": (sequences, {"name": "int4-weight-only", "group_size": 8}, tokens),
        "convolutions, int4 weights": (
            convolutions,
            {"name": "int4-weight-only", "group_size": 16, "misfit": "pad"},
            images,
        ),
        "signals, int5 weights": (signals.eval(), {"name": "int5-weight-only", "group_size": 4, "misfit": "pad"}, rows),
        "sequences, bfloat16 weights": (sequences, "bfloat16", tokens),
    }


class _Convolutions(nn.Module):
    """Images: padding of two kinds, depthwise, ReLU6, a residual sum, max-pool: ``(N, 3, 12, 12) → (N, 5)``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.wide = nn.Conv2d(8, 16, 1, bias=False)
        self.depthwise = nn.Conv2d(16, 16, 3, padding="same", groups=16)
        self.narrow = nn.Conv2d(16, 8, 1)
        self.reflected = nn.Conv2d(8, 8, (4, 3), padding="same", padding_mode="replicate")
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = x + self.narrow(nn.functional.relu6(self.depthwise(nn.functional.relu6(self.wide(x)))))
        x = nn.functional.max_pool2d(self.reflected(x).relu(), 2)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class _Sequences(nn.Module):
    """Tokens: embeddings, attention, GELU, norms; keywords in, a dictionary out: ``(N, T) → (N, T, 9)``."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(50, 24)
        self.qkv = nn.Linear(24, 72)
        self.out = nn.Linear(24, 24)
        self.up, self.down = nn.Linear(24, 48), nn.Linear(48, 24, bias=False)
        self.norm = nn.LayerNorm(24)
        self.head = nn.Linear(24, 9)

    def forward(self, ids: Tensor, scale: Tensor) -> dict[str, Tensor]:
        x = self.tokens(ids) * scale[:, None, None]
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 12)).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
        x = self.norm(x + self.out(attended))
        x = x + self.down(nn.functional.gelu(self.up(x)))
        return {"logits": self.head(x), "pooled": x.mean(1)}


class _Attention(nn.Module):
    """``nn.MultiheadAttention``: ``(N, T, 4)`` to the same."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        attended: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return x + attended
