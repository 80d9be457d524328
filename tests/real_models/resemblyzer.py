"""Resemblyzer, a speaker encoder: 1.42 M parameters, an LSTM of three layers, Linear. Its inputs span many decades.

| figure           | of                                                                               | float |
|------------------|----------------------------------------------------------------------------------|-------|
| equal_error_rate | at which as many pairs of one voice are told apart as of two voices are not      | 0.112 |
| cosine           | mean cosine of an utterance's embedding to that of the float model               | 1     |
"""

import torch
from torch import Tensor, nn

from .assets import asset
from .figures import equal_error_rate
from .mel import mel_spectrogram
from .record import ModelInput
from .speech import corpus

__all__ = ["calibration", "example", "held_back", "load", "score"]

_BANDS, _SIZE, _LAYERS = 40, 256, 3
_FRAMES = 160
_FIRST_FRAME = 40


class VoiceEncoder(nn.Module):
    """The network of ``resemblyzer.VoiceEncoder``, whose own file imports audio packages."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(_BANDS, _SIZE, _LAYERS, batch_first=True)
        self.linear = nn.Linear(_SIZE, _SIZE)

    def forward(self, frames: Tensor) -> Tensor:
        """Mel power ``(N, T, 40)`` → embeddings of norm 1, ``(N, 256)``."""
        _, (hidden, _) = self.lstm(frames)
        return nn.functional.normalize(torch.relu(self.linear(hidden[-1])))


def load() -> nn.Module:
    """A `VoiceEncoder`: mel power ``[N, 160, 40]`` float32 → embeddings ``[N, 256]``."""
    file = asset("resemblyzer", "resemblyzer/pretrained.pt")
    checkpoint = torch.load(file, weights_only=True, map_location="cpu")
    model = VoiceEncoder()
    # Beside the network there are two numbers that the training used.
    model.load_state_dict({name: x for name, x in checkpoint["model_state"].items() if "similarity" not in name})
    return model


def calibration() -> list[ModelInput]:
    """16 batches of 2 utterances: ``[2, 160, 40]``."""
    return list(_windows(corpus().calibration).split(2))


def example(batch_size: int) -> ModelInput:
    """Utterances, repeated as needed: ``[batch_size, 160, 40]``."""
    windows = _windows(corpus().calibration)
    return windows[torch.arange(batch_size) % len(windows)]


def held_back() -> ModelInput:
    """An utterance of each scored voice: ``[9, 160, 40]``."""
    return _windows(tuple(utterances[:1] for utterances in corpus().scored))


def score(model: nn.Module, float_model: nn.Module) -> dict[str, float]:
    """The figures of this file's table."""
    scored = corpus().scored
    windows = _windows(scored)
    voice = torch.arange(len(scored)).repeat_interleave(len(scored[0]))
    embeddings = model(windows)
    row, column = torch.triu_indices(len(voice), len(voice), offset=1)
    return {
        "equal_error_rate": equal_error_rate((embeddings @ embeddings.T)[row, column], voice[row] == voice[column]),
        "cosine": float((embeddings * float_model(windows)).sum(1).mean()),
    }


def _windows(voices: tuple[tuple[Tensor, ...], ...]) -> Tensor:
    """1.6 s from the inside of each utterance."""
    waves = [wave for utterances in voices for wave in utterances]
    return torch.stack([mel_spectrogram(wave)[_FIRST_FRAME : _FIRST_FRAME + _FRAMES] for wave in waves])
