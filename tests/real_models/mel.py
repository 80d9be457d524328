"""Mel spectrograms as Resemblyzer wants them: librosa's, in power, of 25 ms every 10 ms, in 40 bands."""

import math

import torch
from torch import Tensor

from .speech import SAMPLE_RATE

__all__ = ["mel_spectrogram"]

_WINDOW, _HOP, _BANDS = 400, 160, 40
_LOUDNESS_DB = -30.0

# Slaney's scale: linear up to 1 kHz, then 27 bands for each factor of 6.4.
_BREAK_HERTZ, _BREAK_MEL = 1000.0, 15.0
_MELS_PER_LOG = 27 / math.log(6.4)


def mel_spectrogram(wave: Tensor) -> Tensor:
    """``(samples,)`` at 16 kHz → ``(frames, 40)``; a wave that is quieter than -30 dB is made that loud first."""
    loudness = 20 * math.log10(float(wave.square().mean().sqrt()))
    louder = wave * 10 ** (max(0.0, _LOUDNESS_DB - loudness) / 20)
    spectrum = torch.stft(
        louder, _WINDOW, _HOP, window=torch.hann_window(_WINDOW), pad_mode="constant", return_complex=True
    )
    return (_filters() @ spectrum.abs().square()).T


def _filters() -> Tensor:
    """Triangles over the bins of the spectrum, each of area 1: ``(40, 201)``."""
    highest = _BREAK_MEL + _MELS_PER_LOG * math.log(SAMPLE_RATE / 2 / _BREAK_HERTZ)
    edges = _hertz(torch.linspace(0, highest, _BANDS + 2))[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    bins = torch.linspace(0, SAMPLE_RATE / 2, _WINDOW // 2 + 1)
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    return torch.minimum(rising, falling).clamp(min=0) * 2 / (high - low)


def _hertz(mels: Tensor) -> Tensor:
    linear = mels * _BREAK_HERTZ / _BREAK_MEL
    return torch.where(mels < _BREAK_MEL, linear, _BREAK_HERTZ * ((mels - _BREAK_MEL) / _MELS_PER_LOG).exp())
