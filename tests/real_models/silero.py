"""Silero VAD, which hears whether somebody speaks: 0.31 M parameters, 6 Conv1d, LSTMCell with a state that is carried.

| figure    | of                                                                           | float |
|-----------|------------------------------------------------------------------------------|-------|
| accuracy  | share of the chunks of 0.03 s, of speech or of the gaps between, told rightly | 0.978 |
| agreement | share of the chunks told as by the float model                               | 1     |
"""

import safetensors.torch
import torch
from torch import Tensor, nn

from .assets import asset
from .record import ModelInput
from .speech import SAMPLE_RATE, corpus

__all__ = ["calibration", "example", "held_back", "load", "score"]

_CHUNK, _CONTEXT = 512, 64
_SPEECH, _NOISE = 0.05, 0.002
_SIZE = 128
_BATCHES = 16


class SileroVAD(nn.Module):
    """The network at 16 kHz, with its state as two arguments and two results."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, 128, bias=False)
        self.conv1 = nn.Conv1d(129, 128, 3, 1, 1)
        self.conv2 = nn.Conv1d(128, 64, 3, 2, 1)
        self.conv3 = nn.Conv1d(64, 64, 3, 2, 1)
        self.conv4 = nn.Conv1d(64, _SIZE, 3, 1, 1)
        self.lstm_cell = nn.LSTMCell(_SIZE, _SIZE)
        self.final_conv = nn.Conv1d(_SIZE, 1, 1)

    def forward(self, chunk: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The last 64 samples and 512 new ones ``(N, 576)``, the state ``(N, 128)`` each → how likely speech, state."""
        padded = nn.functional.pad(chunk, (0, _CONTEXT), mode="reflect")
        real, imaginary = self.stft_conv(padded[:, None]).chunk(2, dim=1)
        x = (real.square() + imaginary.square()).sqrt()
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = convolution(x).relu()
        hidden, cell = self.lstm_cell(x.squeeze(-1), (hidden, cell))
        return self.final_conv(hidden.relu()[..., None]).sigmoid().reshape(-1), hidden, cell


def load() -> nn.Module:
    """A `SileroVAD`."""
    model = SileroVAD()
    weights = asset("silero-vad", "silero_vad/data/silero_vad_16k.safetensors")
    model.load_state_dict(safetensors.torch.load_file(weights))
    return model


def calibration() -> list[ModelInput]:
    """16 batches: all chunks of four streams, with the states that the float model has there."""
    return _batches(_stream(corpus().calibration, seed=1)[0], _BATCHES)


def example(batch_size: int) -> ModelInput:
    """Chunks ``[batch_size, 576]`` at the start of a stream."""
    chunks = _chunks(_stream(corpus().calibration, seed=1)[0])[0]
    return {"chunk": chunks[torch.arange(batch_size) % len(chunks)], **_silence(batch_size)}


def held_back() -> ModelInput:
    """All chunks of the scored streams, as in `calibration`."""
    return _batches(_stream(corpus().scored, seed=0)[0], 1)[0]


def score(model: nn.Module, float_model: nn.Module) -> dict[str, float]:
    """The figures of this file's table."""
    waves, is_speech = _stream(corpus().scored, seed=0)
    told, floats = (_listen(one, waves) > 1 / 2 for one in (model, float_model))
    return {
        "accuracy": float((told == is_speech).float().mean()),
        "agreement": float((told == floats).float().mean()),
    }


def _stream(voices: tuple[tuple[Tensor, ...], ...], *, seed: int) -> tuple[Tensor, Tensor]:
    """A stream of each voice: gaps of about a second and utterances, all in the same faint noise.

    Returns:
        Waves ``(N, samples)``, as long as the shortest; whether a chunk is speech for the most part ``(N, chunks)``.
    """
    generator = torch.Generator().manual_seed(seed)
    waves, labels = [], []
    for utterances in voices:
        parts = []
        for wave in utterances:
            parts += [torch.zeros(int(SAMPLE_RATE * (0.8 + 0.4 * torch.rand((), generator=generator)))), wave]
        whole = torch.cat([part * (_SPEECH / part.std()) if part.any() else part for part in parts])
        waves.append(whole + _NOISE * torch.randn(len(whole), generator=generator))
        labels.append(torch.cat([torch.full_like(part, float(part.any())) for part in parts]))
    chunks = min(map(len, waves)) // _CHUNK
    wave, label = (torch.stack([one[: chunks * _CHUNK] for one in many]) for many in (waves, labels))
    return wave, label.reshape(len(label), chunks, _CHUNK).mean(2) > 1 / 2


def _chunks(waves: Tensor) -> Tensor:
    """``(N, samples)`` → ``(chunks, N, 576)``, each with the samples before it."""
    return nn.functional.pad(waves, (_CONTEXT, 0)).unfold(1, _CONTEXT + _CHUNK, _CHUNK).transpose(0, 1)


def _silence(streams: int) -> dict[str, Tensor]:
    """The state at the start."""
    return {"hidden": torch.zeros(streams, _SIZE), "cell": torch.zeros(streams, _SIZE)}


def _listen(model: nn.Module, waves: Tensor) -> Tensor:
    """How likely each chunk is speech, ``(N, chunks)``: the streams side by side, their states carried along."""
    state, told = _silence(len(waves)), []
    for chunk in _chunks(waves):
        likely, state["hidden"], state["cell"] = model(chunk, **state)
        told.append(likely)
    return torch.stack(told, dim=1)


def _batches(waves: Tensor, count: int) -> list[ModelInput]:
    """All chunks with the state of the float model before each, dealt out to some batches."""
    model, state, seen = load().eval(), _silence(len(waves)), []
    with torch.no_grad():
        for chunk in _chunks(waves):
            seen.append({"chunk": chunk, **state})
            _, state["hidden"], state["cell"] = model(chunk, **state)
    together = {name: torch.cat([one[name] for one in seen]) for name in seen[0]}
    return [{name: tensor[start::count] for name, tensor in together.items()} for start in range(count)]
