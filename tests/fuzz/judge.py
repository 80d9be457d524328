"""Whether what came of loading a damaged file is one of the things that may."""

import contextlib
import re
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mono_quant import Quantizer, load_model
from mono_quant.errors import ArtifactError, UnknownPluginError
from mono_quant.modules import QuantizedModule

from .subject import FEATURES, QUANTIZER, SHORT, Subject

ALLOWED_MEMORY = 64 * 2**20
LONGEST = 10.0
"""Seconds for one way to load one file."""
LONGEST_MESSAGE = 1200
INPUT = torch.linspace(-2, 2, 3 * 2 * FEATURES).reshape(3, 2, FEATURES)


class Judge:
    """Loads files, and says what is wrong with what came of it.

    Args:
        good: the file of the quantized model; what loads must have its structure.
    """

    def __init__(self, good: Path) -> None:
        self._skeleton = Subject()
        self._quantizer = Quantizer(**QUANTIZER)
        self._before = _bits(self._skeleton)
        self._structure = _structure(self._quantizer.load(good, self._skeleton))
        load_model(good)
        torch.ones(1000, 1000).exp()  # makes torch's threads, whose stacks are no memory of a file

    def judge(self, path: Path, mark: Path) -> tuple[str, str]:
        """What came of it in a word, and what is wrong with that; nothing is when that is empty."""
        outcomes, problems = [], []
        for load, check in ((self._load, self._check_model), (load_model, _check_tensors)):
            space, start = _memory("VmSize"), time.monotonic()
            peak = _memory("VmPeak")
            try:
                loaded: Any = load(path)
            except (ArtifactError, UnknownPluginError) as error:
                outcomes.append("refused")
                problems.append(_check_message(str(error), path))
            except Exception as error:  # noqa: BLE001 - this is what is looked for
                outcomes.append("failed")
                problems.append(f"{type(error).__name__}: {error}")
            else:
                outcomes.append("loaded")
                problems.append(check(loaded, path))
            grown = _memory("VmPeak") - space if _memory("VmPeak") > peak else 0
            if grown > path.stat().st_size + ALLOWED_MEMORY:
                problems.append(f"took {grown:,} bytes")
            if time.monotonic() - start > LONGEST:
                problems.append(f"took {time.monotonic() - start:.1f} s")
        if mark.exists():
            problems.append("ran code")
        if _bits(self._skeleton) != self._before:
            problems.append("changed the model given")
        return "/".join(outcomes), "; ".join(filter(None, problems))

    def _load(self, path: Path) -> nn.Module:
        return self._quantizer.load(path, self._skeleton)

    def _check_model(self, model: nn.Module, _: Path) -> str:
        # A layer in half precision that the manifest does not name is a float layer of another dtype, which may be.
        free = SHORT if SHORT not in model.mono_quant_manifest.layers else None
        expected, actual = (
            [line for line in structure if str(line[0]).partition(".")[0] != free]
            for structure in (self._structure, _structure(model))
        )
        if expected != actual:
            return f"loaded as another structure: {set(expected) ^ set(actual)}"
        for prefix, module in model.named_modules():
            scales = module.state_dict() if isinstance(module, QuantizedModule) else {}
            for name, tensor in scales.items():
                if name.endswith("_scale") and not bool((torch.isfinite(tensor) & (tensor > 0)).all()):
                    return f"loaded with {prefix}.{name} = {tensor}"
        # What comes out of damaged numbers is not judged, only that nothing crashes.
        with contextlib.suppress(RuntimeError, TypeError), torch.no_grad():
            model(INPUT)
        return ""


def _structure(model: nn.Module) -> list[tuple[object, ...]]:
    """Names and classes of modules, names, shapes and kinds of tensors; codes and scales have one dtype only."""
    modules = [(name, type(module).__qualname__) for name, module in model.named_modules()]
    exact = {
        f"{prefix}.{name}" for prefix, module in model.named_modules() if isinstance(module, QuantizedModule)
        for name in module.state_dict() if "bias" not in name
    }  # fmt: skip
    tensors = [
        (name, tuple(tensor.shape), tensor.dtype if name in exact else tensor.is_floating_point(), type(tensor))
        for name, tensor in model.state_dict(keep_vars=True).items()
    ]
    return [*modules, *tensors]


def _check_tensors(state: dict[str, Tensor], path: Path) -> str:
    """All of them plain, of the file's own bytes, and there to be read."""
    seen: dict[int, int] = {}
    for name, tensor in state.items():
        if not isinstance(name, str) or type(tensor) not in {Tensor, nn.Parameter}:
            return f"{name!r} is a {type(tensor).__name__}"
        if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            return f"{name!r} is {tensor.layout} on {tensor.device}"
        if tensor.data_ptr() % tensor.element_size():
            return f"{name!r} is not aligned"
        seen[tensor.data_ptr()] = max(seen.get(tensor.data_ptr(), 0), tensor.nbytes)
        tensor.detach().clone().flatten().view(torch.uint8).sum()
    return "" if sum(seen.values()) <= path.stat().st_size else "more bytes than the file has"


def _check_message(message: str, path: Path) -> str:
    if str(path) not in message:
        return f"the file is not named in {message!r}"
    if len(message) > LONGEST_MESSAGE + len(str(path)):
        return f"a message of {len(message)} characters"
    return "" if all(c.isprintable() or c == "\n" for c in message) else f"what a terminal acts on in {message!r}"


def _bits(model: nn.Module) -> list[tuple[str, int, bytes]]:
    tensors = model.state_dict(keep_vars=True)
    return [
        (name, id(t), bytes(t.detach().contiguous().flatten().view(torch.uint8).tolist()))
        for name, t in tensors.items()
    ]


def _memory(field: str) -> int:
    """Bytes of address space, now or at most, of this process."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0
