"""Texts with human judgements of their similarity, and texts without, from gensim's test data."""

import torch

from .assets import asset

__all__ = ["background_documents", "lee_documents", "lee_similarities", "wordsim_pairs"]

_FOLDER = "gensim/test/test_data"


def lee_documents() -> list[str]:
    """50 news items of 80 to 130 words (Lee, Pincombe and Welsh, 2005)."""
    return _lines("lee.cor")


def lee_similarities() -> torch.Tensor:
    """How alike people found each two of `lee_documents`: ``[50, 50]`` in [0, 1], filled above the diagonal."""
    return torch.tensor([[float(field) for field in line.split()] for line in _lines("similarities0-1.txt")])


def wordsim_pairs() -> tuple[list[str], list[str], torch.Tensor]:
    """WordSim353: first words, second words, and how related people found them: ``[353]`` in [0, 10]."""
    rows = [line.split("\t") for line in _lines("wordsim353.tsv") if not line.startswith("#")]
    first, second, relatedness = zip(*rows, strict=True)
    return list(first), list(second), torch.tensor([float(field) for field in relatedness])


def background_documents() -> list[str]:
    """300 other news items of the same years and style as `lee_documents`, none of them among those."""
    return _lines("lee_background.cor")


def _lines(file: str) -> list[str]:
    # Not splitlines(), to which some of Latin-1's control characters are line ends.
    text = asset("gensim", f"{_FOLDER}/{file}").read_text(encoding="latin-1")
    return [line for line in text.split("\n") if line.strip()]
