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
from torch import Tensor, nn

from mono_quant._atomic import replacing
from mono_quant._user_line import level_of_the_user
from mono_quant.calibration.data import describe
from mono_quant.errors import ArtifactError, QuantizationWarning
from mono_quant.modules import QuantizedModule
from mono_quant.plugin_api.runtime import Runtime
from mono_quant.plugin_api.source import Batch
from mono_quant.runtimes.comparison import NamedRuntime, RuntimeTiming

__all__ = ["question", "recall", "remember"]

_FOLDER = "MONO_QUANT_CACHE"
"""The environment variable with the folder to use in place of the user's cache."""


def question(model: nn.Module, example: Batch, runtimes: Sequence[NamedRuntime], versions: Mapping[str, str]) -> str:
    """What the answer depends on, as a hexadecimal hash: the machine, the threads, the model and the batch's shapes.

    Of the model it is the classes, the shapes, how weights and inputs are quantized and the kernels to choose from; not
    the values. Of a runtime it is why it cannot run the model, or the versions of what it runs on.

    Args:
        model: quantized.
        example: a batch.
        runtimes: to choose from.
        versions: of mono_quant, torch and who gives the runtimes.
    """
    layers = [(name, type(module).__name__, _how(module)) for name, module in model.named_modules()]
    state = model.state_dict().items()
    tensors = [(name, str(one.dtype), list(one.shape)) for name, one in state if isinstance(one, Tensor)]
    asked = [(name, _asked(runtime, model)) for name, runtime in sorted(runtimes, key=lambda named: named[0])]
    return _hash([_machine(), dict(versions), asked, layers, tensors, describe(example)])


def recall(key: str) -> list[RuntimeTiming]:
    """What was measured for a question, the runtimes in their order; nothing when it was not, or cannot be read."""
    try:
        timings = [RuntimeTiming(**timing) for timing in json.loads(_file(key).read_bytes())]
    except (OSError, ValueError, TypeError, RuntimeError):  # the last where there is no home
        return []
    return timings if all(isinstance(timing.ms, float | None) for timing in timings) else []


def remember(key: str, timings: Sequence[RuntimeTiming]) -> None:
    """Keep what was measured, once all were; where that cannot be written, it is measured again next time."""
    if not all(timing.was_tried for timing in timings):
        return
    try:
        path = _file(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps([attrs.asdict(timing) for timing in timings]), encoding="utf-8")
    except (OSError, ArtifactError, RuntimeError) as error:
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


def _asked(runtime: Runtime, model: nn.Module) -> object:
    try:
        return runtime.supports(model).why_not or runtime.versions()
    except Exception as error:  # noqa: BLE001 - a third party's code can raise anything
        return f"{type(error).__name__}: {error}"


def _how(module: nn.Module) -> list[object]:
    """How a quantized layer computes: its weights, its input, and the kernels that it may take."""
    if not isinstance(module, QuantizedModule):
        return []
    weights = [f"{name} {spec} {spec.shape}" for name, spec in module.weight_specs.items()]
    own = vars(module)
    engines = [*([own["engine"]] if "engine" in own else []), *own.get("engines", {}).values()]
    kernels = [(engine.wanted, [name for name, _ in engine.kernels]) for engine in engines]
    return [weights, str(own.get("input_spec")), own.get("handover"), kernels]


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
