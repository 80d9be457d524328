"""The ``torch`` runtime."""

from mono_quant.plugin_api import RuntimeSpec, hookimpl
from mono_quant.runtimes.torch_eager import TorchRuntime

__all__ = ["mono_quant_runtimes"]


@hookimpl
def mono_quant_runtimes() -> list[RuntimeSpec]:
    """Announce it."""
    return [
        RuntimeSpec(
            name="torch",
            summary="torch, eagerly: no tracing",
            factory=TorchRuntime,
        )
    ]
