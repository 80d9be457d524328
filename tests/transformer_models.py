"""Transformers of torch for tests of the whole pipeline, and data for them."""

import torch
from torch import Tensor, nn

from mono_quant.plugin_api import Batch

SIZE, HEADS, WIDE, LENGTH, SEQUENCES = 32, 4, 64, 6, 3


def encoder(norm: nn.Module | None = None, layers: int = 2, **options: object) -> nn.TransformerEncoder:
    """One that works on nested tensors where there is padding, as torch's does by default."""
    layer = nn.TransformerEncoderLayer(SIZE, HEADS, WIDE, **{"batch_first": True, **options})
    return awake(nn.TransformerEncoder(layer, layers, norm=norm, enable_nested_tensor=not options.get("norm_first")))


def awake(model: nn.Module) -> nn.Module:
    """With biases, which torch begins at zero, in eval mode."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def sequences(count: int = 3) -> list[Tensor]:
    return [torch.randn(SEQUENCES, LENGTH, SIZE) for _ in range(count)]


def padding() -> Tensor:
    """One sequence is whole, one is short, one is empty."""
    hidden = torch.zeros(SEQUENCES, LENGTH, dtype=torch.bool)
    hidden[1, 4:] = True
    hidden[2] = True
    return hidden


def padded(count: int = 3) -> list[Batch]:
    return [Batch((x,), {"src_key_padding_mask": padding()}) for x in sequences(count)]


def padded_pairs(count: int = 3) -> list[Batch]:
    """A source with padding, which its target does not see."""
    masks = {"src_key_padding_mask": padding(), "memory_key_padding_mask": padding()}
    return [Batch(batch.args, masks) for batch in pairs(count)]


def pairs(count: int = 3) -> list[Batch]:
    """A source, and a target whose positions see only those before them."""
    hidden = nn.Transformer.generate_square_subsequent_mask(LENGTH)
    return [
        Batch((source, target), {"tgt_mask": hidden})
        for source, target in zip(sequences(count), sequences(count), strict=True)
    ]


class Decoder(nn.Module):
    """A decoder with a memory that is its input too."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        layer = nn.TransformerDecoderLayer(SIZE, HEADS, WIDE, **{"batch_first": True, **options})
        self.decoder = awake(nn.TransformerDecoder(layer, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(x, x.flip(1), tgt_is_causal=False)


class Attentive(nn.Module):
    """Attention alone, and a head."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.attention = awake(nn.MultiheadAttention(SIZE, HEADS, **{"batch_first": True, **options}))
        self.head = nn.Linear(SIZE, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x, need_weights=False)[0])
