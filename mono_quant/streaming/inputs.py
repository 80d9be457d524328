"""What is in a folder as Hugging Face lays it out: weights to quantize, files to copy, other weights to leave out."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import attrs

from mono_quant.errors import ArtifactError, ConfigurationError
from mono_quant.io.checkpoint import find_checkpoint
from mono_quant.io.checkpoint.index import INDEX_SUFFIX, read_index
from mono_quant.plugin_api import JSON

__all__ = ["CONFIG", "InputFolder", "look_into"]

CONFIG = "config.json"
_WEIGHTS = (
    ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".ot", ".gguf", ".onnx", ".onnx_data", ".tflite",
)  # fmt: skip
_QUANTIZED = ("quantization_config", "compression_config")


@attrs.frozen(kw_only=True)
class InputFolder:
    """A folder, looked into before any work.

    Args:
        path: of the folder.
        weights: the safetensors file, or the index of several.
        shards: the files with weights, by their plain names.
        copied: other files, relative to the folder, with ``/`` between folders.
        left_out: the same of weights that are not read, and of links to folders.
        config: what ``config.json`` says; None when there is none.
    """

    path: Path
    weights: Path
    shards: tuple[str, ...]
    copied: tuple[str, ...]
    left_out: tuple[str, ...]
    config: dict[str, JSON] | None

    @property
    def stem(self) -> str:
        """What the names of files with weights begin with."""
        return self.weights.name.removesuffix(INDEX_SUFFIX).removesuffix(".safetensors")

    def fingerprint(self) -> dict[str, list[int]]:
        """Size and time of the last change of each file that is read.

        Raises:
            ArtifactError: when one is gone.
        """
        names = sorted({*self.shards, self.weights.name, *self.copied, *([CONFIG] if self.config is not None else [])})
        try:
            found = {name: (self.path / name).stat() for name in names}
        except OSError as error:
            raise ArtifactError(f"{self.path} cannot be read: {error}") from error
        return {name: [status.st_size, status.st_mtime_ns] for name, status in found.items()}


def look_into(folder: Path) -> InputFolder:
    """Find out what is there.

    What begins with a dot is no part of it. Links to files are followed, as those of the cache of Hugging Face.

    Raises:
        ArtifactError: when it is no folder, holds no safetensors weights or two, or something that cannot be copied.
        ConfigurationError: when the model is quantized already.
    """
    if not folder.is_dir():
        raise ArtifactError(f"{folder} is not a folder: give the folder that holds the checkpoint")
    weights = _weights(folder)
    shards = (
        tuple(dict.fromkeys(read_index(weights).weight_map.values()))
        if weights.name.endswith(INDEX_SUFFIX)
        else (weights.name,)
    )
    copied: list[str] = []
    left_out: list[str] = []
    for name, is_file in _walk(folder):
        if name in {*shards, weights.name, CONFIG}:
            continue
        is_weights = name.endswith((*_WEIGHTS, *(f"{suffix}.index.json" for suffix in _WEIGHTS)))
        (copied if is_file and not is_weights else left_out).append(name)
    return InputFolder(
        path=folder,
        weights=weights,
        shards=shards,
        copied=tuple(copied),
        left_out=tuple(left_out),
        config=_config(folder / CONFIG),
    )


def _weights(folder: Path) -> Path:
    try:
        return find_checkpoint(folder)
    except ArtifactError as error:
        others = [name for name, _ in _walk(folder) if "/" not in name and name.endswith(_WEIGHTS[1:])]
        if others and "no safetensors" in str(error):
            raise ArtifactError(
                f"{error}, only {', '.join(others)}: save the weights as safetensors first, or quantize that file alone"
            ) from error
        raise


def _walk(folder: Path) -> Iterator[tuple[str, bool]]:
    """Names of what is not hidden, sorted, and whether each is a file; links to folders are not entered.

    Raises:
        ArtifactError: when something is neither file nor folder, or a folder cannot be read.
    """
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        for entry in entries:
            mode = entry.stat().st_mode
            if stat.S_ISREG(mode):
                yield entry.name, True
            elif stat.S_ISDIR(mode) and not entry.is_symlink():
                yield from ((f"{entry.name}/{name}", is_file) for name, is_file in _walk(entry))
            elif stat.S_ISDIR(mode):
                yield entry.name, False
            else:
                raise ArtifactError(f"{entry} is neither a file nor a folder: it cannot be copied")
    except OSError as error:
        raise ArtifactError(f"{folder} cannot be read: {error}") from error


def _config(path: Path) -> dict[str, JSON] | None:
    if not path.exists():
        return None
    try:
        config = json.loads(path.read_bytes())  # which takes Infinity and NaN, as some models have them
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise ArtifactError(f"{path} is no JSON object")
    text = config.get("text_config")
    both = [config, text if isinstance(text, dict) else {}]
    if key := next((key for key in _QUANTIZED for one in both if one.get(key)), ""):
        raise ConfigurationError(
            f"{path} has a {key!r}: the model is quantized already; quantize the float weights in one run"
        )
    return config
