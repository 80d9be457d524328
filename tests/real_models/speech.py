"""Spoken news: eSpeak NG, which espeakng-loader carries, reads texts that gensim carries, in voices of its own."""

import ctypes
from collections.abc import Iterator
from functools import cache

import attrs
import numpy as np
import torch
from torch import Tensor

from .assets import asset
from .texts import background_documents, lee_documents

__all__ = ["SAMPLE_RATE", "Corpus", "corpus", "resampled"]

SAMPLE_RATE = 16_000

_SCORED = ("m1", "m2", "m3", "m4", "m5", "f1", "f2", "f3", "f4")
_FOR_CALIBRATION = ("m6", "m7", "m8", "f5")
_UTTERANCES = 6
_WORDS = 12
_RETRIEVAL = 2  # AUDIO_OUTPUT_SYNCHRONOUS of speak_lib.h: samples go to the callback, before espeak_Synth returns
_NO_EXIT = 0x8000
_BLOCK = 441  # samples at 22050 Hz in 0.02 s, which are 320 at 16000 Hz
_PER_BLOCK = 320
_SYNTH_RATE = 22_050


@attrs.frozen(eq=False)
class Corpus:
    """Utterances of about four seconds, float32 ``(samples,)`` in [-1, 1] at 16 kHz, as tuples, one for each voice."""

    scored: tuple[tuple[Tensor, ...], ...]
    calibration: tuple[tuple[Tensor, ...], ...]


@cache
def corpus() -> Corpus:
    """9 voices with 6 utterances each, and 4 others with 8, which read other texts.

    All of it is spoken at once and in order: the engine goes on with its random numbers from utterance to utterance.
    """
    engine = _Engine()
    scored, other = _phrases(lee_documents()), _phrases(background_documents())
    return Corpus(
        scored=tuple(tuple(engine.say(next(scored), voice) for _ in range(_UTTERANCES)) for voice in _SCORED),
        calibration=tuple(tuple(engine.say(next(other), voice) for _ in range(8)) for voice in _FOR_CALIBRATION),
    )


def _phrases(documents: list[str]) -> Iterator[str]:
    return (" ".join(document.split()[:_WORDS]) for document in documents * 2)


class _Engine:
    """The parts of eSpeak NG's C interface (``speak_lib.h``) that are needed to turn text into samples."""

    def __init__(self) -> None:
        folder = asset("espeakng-loader", "espeakng_loader")
        self._library = ctypes.CDLL(str(folder / "libespeak-ng.so"))
        self._chunks: list[np.ndarray] = []
        self._callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)(
            self._take
        )
        rate = self._library.espeak_Initialize(_RETRIEVAL, 0, str(folder).encode(), _NO_EXIT)
        if rate != _SYNTH_RATE:
            raise RuntimeError(f"eSpeak NG did not start: espeak_Initialize gave {rate}")
        self._library.espeak_ng_SetRandSeed(0)
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, variant: str) -> Tensor:
        """Text, read by a variant of the American voice."""
        self._chunks.clear()
        data = text.encode()
        if self._library.espeak_SetVoiceByName(f"en-us+{variant}".encode()) or self._library.espeak_Synth(
            data, len(data) + 1, 0, 1, 0, 1, None, None
        ):
            raise RuntimeError(f"eSpeak NG cannot say {text!r} as {variant!r}")
        return resampled(torch.tensor(np.concatenate(self._chunks), dtype=torch.float32) / 2**15)

    def _take(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, _: object) -> int:
        if samples and count:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0


def resampled(wave: Tensor) -> Tensor:
    """From 22050 to 16000 Hz: the part of the spectrum that both can hold; less than 0.02 s at the end is cut off."""
    blocks = len(wave) // _BLOCK
    count = blocks * _PER_BLOCK
    spectrum = torch.fft.rfft(wave[: blocks * _BLOCK])[: count // 2 + 1]
    return torch.fft.irfft(spectrum, count) * (_PER_BLOCK / _BLOCK)
