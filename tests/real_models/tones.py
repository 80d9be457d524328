"""Synthetic musical tones of known pitch."""

import math

import torch

__all__ = ["tones"]

_SAMPLE_RATE = 16_000
_SAMPLES = 1024
_HARMONICS = 8
_HIGHEST_HZ = 7_600.0
_NOISE = 0.1


def tones(count: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames of harmonic tones with noise 20 dB under them, and their pitches.

    Each tone has a random pitch between 60 and 1180 Hz, and harmonics (those under 7.6 kHz) of random phase that fade
    as a random power of their number.

    Returns:
        Frames ``[count, 1024]`` float32 at 16 kHz, each of mean 0 and standard deviation 1; pitches ``[count]`` in Hz.
    """
    # N tones, K harmonics, T samples
    generator = torch.Generator().manual_seed(seed)
    hertz_N = 60 * 2 ** (4.3 * torch.rand(count, generator=generator))
    phase_NK = 2 * math.pi * torch.rand(count, _HARMONICS, generator=generator)
    decay_NK = 0.7 + 1.3 * torch.rand(count, _HARMONICS, generator=generator)
    number_K = torch.arange(1, _HARMONICS + 1)
    hertz_NK = hertz_N[:, None] * number_K
    amplitude_NK = number_K**-decay_NK * (hertz_NK < _HIGHEST_HZ)
    seconds_T = torch.arange(_SAMPLES) / _SAMPLE_RATE
    wave_NKT = torch.sin(2 * math.pi * hertz_NK[..., None] * seconds_T + phase_NK[..., None])
    tone_NT = (amplitude_NK[..., None] * wave_NKT).sum(1)
    noise_NT = torch.randn(count, _SAMPLES, generator=generator) * tone_NT.std(1, keepdim=True) * _NOISE
    return _standardized(tone_NT + noise_NT), hertz_N


def _standardized(frames_NT: torch.Tensor) -> torch.Tensor:
    return (frames_NT - frames_NT.mean(1, keepdim=True)) / frames_NT.std(1, keepdim=True)
