"""A decoder like Llama's: RMSNorm, rotary positions, SwiGLU; without a cache of keys and values."""

import torch
from torch import Tensor, nn

from .record import Inputs

__all__ = ["inputs", "load"]

_LAYERS, _WIDTH, _HEADS, _MLP, _VOCABULARY, _LONGEST = 8, 1024, 16, 2816, 8000, 512
_HEAD = _WIDTH // _HEADS


def load() -> nn.Module:
    """Token ids ``[N, T]`` int64 → logits ``[N, T, 8000]``."""
    torch.manual_seed(0)
    return _Decoder().eval()


def inputs(shape: tuple[int, ...], count: int, *, held_back: bool) -> list[Inputs]:
    """Random tokens."""
    generator = torch.Generator().manual_seed(2 if held_back else 1)
    return [(torch.randint(_VOCABULARY, shape, generator=generator),) for _ in range(count)]


class _Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(_VOCABULARY, _WIDTH)
        self.layers = nn.ModuleList([_Layer() for _ in range(_LAYERS)])
        self.norm = nn.RMSNorm(_WIDTH, eps=1e-6)
        self.lm_head = nn.Linear(_WIDTH, _VOCABULARY, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        angles = torch.outer(torch.arange(_LONGEST), 10000.0 ** -(torch.arange(0, _HEAD, 2) / _HEAD)).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        length = input_ids.shape[1]
        x, cos, sin = self.embed_tokens(input_ids), self.cos[:length], self.sin[:length]
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.lm_head(self.norm(x))


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.input_norm, self.attention = nn.RMSNorm(_WIDTH, eps=1e-6), _Attention()
        self.mlp_norm, self.mlp = nn.RMSNorm(_WIDTH, eps=1e-6), _SwiGLU()

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attention(self.input_norm(x), cos, sin)
        return x + self.mlp(self.mlp_norm(x))


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(_WIDTH, _WIDTH, bias=False) for _ in range(4))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        rows, length, _ = x.shape
        q, k, v = (
            projection(x).view(rows, length, _HEADS, _HEAD).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = _rotated(q, cos, sin), _rotated(k, cos, sin)
        out = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(out.transpose(1, 2).reshape(rows, length, _WIDTH))


class _SwiGLU(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(_WIDTH, _MLP, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(_MLP, _WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (Su et al., 2021), halves of a head paired: ``[N, H, T, D]`` with ``[T, D]`` tables."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
