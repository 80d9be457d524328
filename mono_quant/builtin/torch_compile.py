"""The ``torch-compile`` runtime."""

from mono_quant.plugin_api import RuntimeSpec, hookimpl
from mono_quant.runtimes.torch_compile import TorchCompileRuntime

__all__ = ["mono_quant_runtimes"]


@hookimpl
def mono_quant_runtimes() -> list[RuntimeSpec]:
    """Announce it."""
    return [
        RuntimeSpec(
            name="torch-compile",
            summary="torch.compile by Inductor, quantized layers on kernels",
            factory=TorchCompileRuntime,
        )
    ]
