"""Which runtime was the fastest, kept beside what the answer depends on."""

import hashlib
import json
import os
import platform
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import torch
from torch import nn

from mono_quant._atomic import replacing
from mono_quant._user_line import level_of_the_user
from mono_quant.calibration.data import describe
from mono_quant.errors import ArtifactError, QuantizationWarning
from mono_quant.modules import QuantizedModule
from mono_quant.plugin_api.source import Batch
from mono_quant.runtimes.comparison import RuntimeTiming

__all__ = ["question", "recall", "remember"]

_FOLDER = "MONO_QUANT_CACHE"
"""The environment variable with the folder to use in place of the user's cache."""


def question(model: nn.Module, example: Batch, versions: Mapping[str, str]) -> str:
    """What the answer depends on, as a hexadecimal hash: the machine, the threads, the model and the batch's shapes.

    Of the model it is the classes, the shapes and how weights are stored; not the values.

    Args:
        model: quantized.
        example: a batch.
        versions: of mono_quant, torch and who gives the runtimes.
    """
    layers = [(name, type(module).__name__, _stored(module)) for name, module in model.named_modules()]
    tensors = [(name, str(tensor.dtype), list(tensor.shape)) for name, tensor in model.state_dict().items()]
    return _hash([_machine(), dict(versions), layers, tensors, describe(example)])


def recall(key: str) -> list[RuntimeTiming]:
    """What was measured for a question, the runtimes in their order; nothing when it was not, or cannot be read."""
    try:
        return [RuntimeTiming(**timing) for timing in json.loads(_file(key).read_bytes())]
    except (OSError, ValueError, TypeError):
        return []


def remember(key: str, timings: Sequence[RuntimeTiming]) -> None:
    """Keep what was measured; where that cannot be written, it is measured again next time."""
    path = _file(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps([attrs.asdict(timing) for timing in timings]), encoding="utf-8")
    except (OSError, ArtifactError) as error:
        text = f"the choice of a runtime cannot be kept for the next time: {error}"
        warnings.warn(text, QuantizationWarning, stacklevel=level_of_the_user())


def _file(key: str) -> Path:
    base = os.environ.get(_FOLDER) or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mono_quant"
    return Path(base) / "runtimes" / f"{key}.json"


def _machine() -> dict[str, object]:
    return {
        "cpu": [platform.machine(), platform.processor(), _cpu(), os.cpu_count()],
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "system": [platform.system(), platform.python_version()],
    }


def _cpu() -> list[str]:
    """What Linux says of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    wanted = ("model name", "flags", "Features", "CPU part")
    return sorted({line for line in lines if line.startswith(wanted)})


def _stored(module: nn.Module) -> list[str]:
    if not isinstance(module, QuantizedModule):
        return []
    return [f"{name} {spec} {spec.shape}" for name, spec in module.weight_specs.items()]


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
