"""One quantized model in every format, run by every reader: ``nox -s bench_readers`` writes docs/reference/readers.md.

``python -m tests.bench.readers [MODEL ...]``. Each file is made of the same result; a reader that is not installed is
left out by name. Latency is the median over runs in which all readers of a model take turns.
"""

import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from mono_quant import QuantizationResult, Quantizer
from tests.real_models import minilm, smollm2

from .tables import table

_MODELS = {"MiniLM-L6": minilm, "SmolLM2-135M": smollm2}
_SCHEMES: dict[str, dict[str, object]] = {
    "int8-weight-only": {"name": "int8-weight-only"},
    "int4-weight-only, groups of 32, symmetric": {"name": "int4-weight-only", "group_size": 32, "symmetric": True},
}
_PLUGINS = ("mono_quant_compressed_tensors", "mono_quant_gguf", "mono_quant_onnx")
_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "readers.md"
_TURNS = 15

Read = Callable[[QuantizationResult, nn.Module, Any, Path], nn.Module]


@attrs.frozen
class Reader:
    """One way from a result to a model that runs: a file, and who reads it."""

    file: str
    read_by: str
    read: Read


def main(names: list[str]) -> int:
    lines = [_HEAD]
    for name in names or list(_MODELS):
        for title, scheme in _SCHEMES.items():
            lines += [f"## {name}, {title}\n", "\n".join(_rows(_MODELS[name], scheme)), ""]
            _PAGE.write_text("\n".join(lines), encoding="utf-8")
    return 0


def _rows(module: Any, scheme: Mapping[str, object]) -> Iterator[str]:  # noqa: ANN401 - one of the real models
    model = module.load().float().eval()
    embeddings = [name for name, layer in model.named_modules() if isinstance(layer, nn.Embedding)]
    tied = [name for name, layer in model.named_modules() if name == "lm_head" and isinstance(layer, nn.Linear)]
    result = Quantizer(
        scheme, exclude=[*embeddings, *tied], validators=(), algorithms=(), plugins=_PLUGINS, show_progress=False
    ).quantize(model)
    batch = module.held_back()
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        made = {reader: _made(reader, result, model, batch, Path(folder)) for reader in _READERS}
        runs = {reader: one for reader, (one, _) in made.items() if isinstance(one, nn.Module)}
        all_runs: dict[Any, nn.Module] = {"float": model, **runs}
        times = _times(all_runs, batch)
        states = {name: _states(one(**batch)) for name, one in all_runs.items()}
        ours = states[_READERS[0]]
        figures = {reader: module.score(_Named(one), model) for reader, one in runs.items()}
        figures_of_float = module.score(model, model)
    names = tuple(figures_of_float)
    size = sum(t.nbytes for t in model.state_dict().values()) / 2**20
    rows = [("float32", "PyTorch", f"{size:.1f}", "", "", f"{times['float']:.1f}", *_text(figures_of_float, names))]
    for reader, (one, size) in made.items():
        if isinstance(one, str):
            rows.append((reader.file, reader.read_by, "", one, "", "", *[""] * len(names)))
            continue
        rows.append(
            (
                reader.file,
                reader.read_by,
                f"{size:.1f}",
                _decibels(states["float"], states[reader]),
                "" if reader is _READERS[0] else _decibels(ours, states[reader]),
                f"{times[reader]:.1f}",
                *_text(figures[reader], names),
            )
        )
    yield from table(("file", "read by", "MB", "SQNR to float, dB", "to mono_quant's own, dB", "ms", *names), rows)


def _made(
    reader: Reader,
    result: QuantizationResult,
    model: nn.Module,
    batch: object,
    folder: Path,
) -> tuple[nn.Module | str, float]:
    """The model as it is read, and the MB of its files; or why not."""
    place = folder / reader.file
    try:
        made = reader.read(result, model, batch, place).eval()
    except Exception as error:  # noqa: BLE001 - readers of others, which may not be there
        return f"not read: {type(error).__name__}: {str(error).splitlines()[0][:120]}", 0.0
    files = [place, *folder.glob(f"{place.name}.*")] if place.is_file() else list(place.rglob("*.safetensors"))
    return made, sum(file.stat().st_size for file in files) / 2**20


def _ours(result: QuantizationResult, model: nn.Module, batch: object, path: Path) -> nn.Module:
    del batch
    result.save(path)
    return Quantizer(plugins=_PLUGINS).load(path, model)


def _program(result: QuantizationResult, model: nn.Module, batch: object, path: Path) -> nn.Module:
    del model
    result.save(path, example=batch)
    return Quantizer(plugins=_PLUGINS).load(path)


def _transformers(result: QuantizationResult, model: Any, batch: object, path: Path) -> nn.Module:  # noqa: ANN401
    del batch
    model.config.save_pretrained(path)
    result.save(path, format="compressed-tensors")
    read: nn.Module = type(model).from_pretrained(path, dtype=torch.float32)
    return read


def _gguf(result: QuantizationResult, model: nn.Module, batch: object, path: Path) -> nn.Module:
    """The float model with the weights that gguf's own reader finds; it runs nothing itself."""
    import gguf  # noqa: PLC0415 - it is not always there

    del batch
    result.save(path, format={"name": "gguf", "round_scales": True})
    read = copy.deepcopy(model)
    state = read.state_dict()
    for tensor in gguf.GGUFReader(path).tensors:
        if tensor.name in state:
            values = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())
            state[tensor.name].copy_(values.reshape(state[tensor.name].shape))
    return read


def _openvino(result: QuantizationResult, model: nn.Module, batch: object, path: Path) -> nn.Module:
    import openvino  # noqa: PLC0415 - it is not always there

    del model
    result.save(path, example=batch)
    return _OpenVINO(openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}))


_READERS = (
    Reader("model.safetensors", "mono_quant", _ours),
    Reader("model.pt2", "torch.export", _program),
    Reader("folder", "transformers, compressed-tensors", _transformers),
    Reader("model.onnx", "ONNX Runtime", _program),
    Reader("model.onnx", "OpenVINO", _openvino),
    Reader("model.gguf", "gguf, weights alone", _gguf),
)


class _OpenVINO(nn.Module):
    """What OpenVINO compiled, called with tensors by name."""

    def __init__(self, compiled: Any) -> None:  # noqa: ANN401 - openvino.CompiledModel
        super().__init__()
        self._compiled = compiled

    def forward(self, **batch: Tensor) -> tuple[Tensor, ...]:
        outputs = self._compiled({name: tensor.numpy() for name, tensor in batch.items()})
        return tuple(torch.from_numpy(output.copy()) for output in outputs.to_tuple())


class _Named(nn.Module):
    """A model whose output has the name that the figures ask for, whatever the reader gives."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model

    def forward(self, **batch: Tensor) -> Any:  # noqa: ANN401 - with both names
        output = self._model(**batch)
        if hasattr(output, "logits") or hasattr(output, "last_hidden_state"):
            return output
        states = _states(output)
        return type("Output", (), {"logits": states, "last_hidden_state": states})


def _states(output: Any) -> Tensor:  # noqa: ANN401 - a record, a mapping or a tuple
    for name in ("logits", "last_hidden_state"):
        if hasattr(output, name):
            return getattr(output, name)  # type: ignore[no-any-return]
    first = next(iter(output.values())) if isinstance(output, Mapping) else output[0]
    return first if isinstance(first, Tensor) else _states(first)


def _times(models: Mapping[Any, nn.Module], batch: Mapping[str, Tensor]) -> dict[Any, float]:
    taken: dict[Any, list[float]] = {name: [] for name in models}
    for turn in range(_TURNS + 2):
        for name, model in models.items():
            begun = time.perf_counter()
            model(**batch)
            if turn > 1:
                taken[name].append((time.perf_counter() - begun) * 1e3)
    return {name: statistics.median(times) for name, times in taken.items()}


def _decibels(expected: Tensor, actual: Tensor) -> str:
    noise = (expected - actual).double().square().sum()
    if not noise:
        return "exact"
    return f"{float(10 * torch.log10(expected.double().square().sum() / noise)):.1f}"


def _text(figures: Mapping[str, float], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{figures[name]:.4g}" for name in names)


_HEAD = """# Readers

One model quantized once, written to every format, and run by who reads it. Written by `nox -s bench_readers`.

- Every line has the same codes. GGUF has scales of 16 bits, `round_scales=True`; gguf's reader gives weights, which the
  float model then runs with.
- Embeddings, and an output layer that is tied to them, stay in float: not every reader has them otherwise.
- transformers decodes all weights when it loads or first runs; `.pt2` and ONNX decode them as they run. Latency is that
  of a real text, in milliseconds, all readers in turn, medians. OpenVINO was told to keep its floats at 32 bits.
- ONNX Runtime and OpenVINO quantize by themselves what meets int8 weights: their outputs there are further from ours.
"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
