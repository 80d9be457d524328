"""What a figure depends on besides the code: the CPU, and the versions of what ran."""

import os
import platform
from importlib import metadata
from pathlib import Path

import torch

__all__ = ["cpu", "forget_peak", "peak_mb", "versions"]

_DISTRIBUTIONS = (
    "torch", "mono-quant", "torchao", "onnxruntime", "onnx", "onnxscript", "openvino", "nncf", "transformers",
)  # fmt: skip


def cpu() -> str:
    """The CPU in one line."""
    vnni = "VNNI" if torch.cpu._is_vnni_supported() else "no VNNI"
    return f"{_model_name()}, {os.cpu_count()} cores, {'AVX-512' if _has_avx512() else 'AVX2'}, {vnni}"


def versions() -> dict[str, str]:
    """Distribution → version, of those that are installed."""
    installed = {one.metadata["Name"].lower(): one.version for one in metadata.distributions()}
    found = {name: installed[name] for name in _DISTRIBUTIONS if name in installed}
    return {"Python": platform.python_version(), **found}


def forget_peak() -> None:
    """From now on `peak_mb` tells of what follows; proc(5), ``clear_refs``."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_mb() -> float:
    """The most memory that this process has had resident, in MB of 2^20 bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def _model_name() -> str:
    return _cpuinfo().get("model name", platform.machine())


def _has_avx512() -> bool:
    return "avx512f" in _cpuinfo().get("flags", "").split()


def _cpuinfo() -> dict[str, str]:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
