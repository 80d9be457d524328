"""The speech and its spectrograms."""

import math

import pytest
import torch
from torch import Tensor

from . import RESEMBLYZER
from .mel import mel_spectrogram
from .speech import SAMPLE_RATE, corpus, resampled


def slow_mel(wave: Tensor, frame: int) -> list[float]:
    """One frame by the formulas: Fourier sums of a windowed piece, and triangles on Slaney's scale, one by one."""
    padded = [0.0] * 200 + wave.double().tolist() + [0.0] * 200
    window = [0.5 - 0.5 * math.cos(2 * math.pi * n / 400) for n in range(400)]
    piece = [padded[160 * frame + n] * weight for n, weight in enumerate(window)]
    power = []
    for k in range(201):
        real = sum(x * math.cos(2 * math.pi * k * n / 400) for n, x in enumerate(piece))
        imaginary = sum(x * math.sin(2 * math.pi * k * n / 400) for n, x in enumerate(piece))
        power.append(real**2 + imaginary**2)

    def hertz(mel: float) -> float:
        return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    top = 15 + 27 * math.log(8) / math.log(6.4)
    edges = [hertz(top * i / 41) for i in range(42)]
    bands = []
    for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
        total = 0.0
        for k in range(201):
            bin_hertz = 40.0 * k
            if low < bin_hertz <= middle:
                total += power[k] * (bin_hertz - low) / (middle - low)
            elif middle < bin_hertz < high:
                total += power[k] * (high - bin_hertz) / (high - middle)
        bands.append(total * 2 / (high - low))
    return bands


@pytest.mark.parametrize("frame", [0, 7, 20])
def test_a_spectrogram_is_that_of_the_formulas(frame: int) -> None:
    wave = 0.2 * torch.randn(3200, generator=torch.Generator().manual_seed(0))
    assert mel_spectrogram(wave)[frame].tolist() == pytest.approx(slow_mel(wave, frame), rel=1e-3)


def test_what_is_quiet_is_made_louder_first() -> None:
    wave = 0.2 * torch.randn(3200, generator=torch.Generator().manual_seed(0))
    quiet, quieter = mel_spectrogram(wave * 1e-2), mel_spectrogram(wave * 1e-3)
    torch.testing.assert_close(quiet, quieter)
    assert quiet.mean() < mel_spectrogram(wave).mean()


def test_a_tone_is_the_same_tone_at_the_other_rate() -> None:
    at_22050, at_16000 = (
        torch.sin(2 * math.pi * 450 * torch.arange(rate, dtype=torch.float64) / rate) for rate in (22050, SAMPLE_RATE)
    )
    torch.testing.assert_close(resampled(at_22050), at_16000)


@pytest.mark.skipif(bool(RESEMBLYZER.missing), reason=f"it needs {', '.join(RESEMBLYZER.missing)}")
def test_every_voice_speaks_for_seconds() -> None:
    spoken = corpus()
    utterances = [wave for voice in (*spoken.scored, *spoken.calibration) for wave in voice]
    assert len(utterances) == 9 * 6 + 4 * 8
    for wave in utterances:
        assert 2.2 * SAMPLE_RATE < len(wave) < 10 * SAMPLE_RATE
        assert float(wave.std()) > 0.01
        assert float(wave.abs().max()) <= 1
