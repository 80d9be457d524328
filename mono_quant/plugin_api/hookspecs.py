"""The hooks that a plugin can implement.

Each takes no argument and returns a list of records. A hook runs once, when a plugin is registered with the manager of
a `Quantizer`; nothing of it runs while data is calibrated or a model is used.
"""

from collections.abc import Sequence

from mono_quant.plugin_api.markers import hookspec
from mono_quant.plugin_api.specs import (
    AlgorithmSpec,
    FormatSpec,
    KernelSpec,
    ObserverSpec,
    RuntimeSpec,
    SchemeSpec,
    SourceSpec,
    ValidatorSpec,
)

__all__ = [
    "HOOKS",
    "mono_quant_algorithms",
    "mono_quant_formats",
    "mono_quant_kernels",
    "mono_quant_observers",
    "mono_quant_runtimes",
    "mono_quant_schemes",
    "mono_quant_sources",
    "mono_quant_validators",
]


@hookspec(historic=True)
def mono_quant_observers() -> Sequence[ObserverSpec]:  # type: ignore[empty-body]
    """Observers: reduce the data that passes a layer's input to the range its codes must cover."""


@hookspec(historic=True)
def mono_quant_sources() -> Sequence[SourceSpec]:  # type: ignore[empty-body]
    """Sources: turn what the user has as calibration data into batches, one at a time."""


@hookspec(historic=True)
def mono_quant_schemes() -> Sequence[SchemeSpec]:  # type: ignore[empty-body]
    """Schemes: decide layer by layer what is quantized and how, and build the quantized layers."""


@hookspec(historic=True)
def mono_quant_formats() -> Sequence[FormatSpec]:  # type: ignore[empty-body]
    """Formats: write and read a quantized model as a file."""


@hookspec(historic=True)
def mono_quant_validators() -> Sequence[ValidatorSpec]:  # type: ignore[empty-body]
    """Validators: check the quantized model against the float one and report findings."""


@hookspec(historic=True)
def mono_quant_kernels() -> Sequence[KernelSpec]:  # type: ignore[empty-body]
    """Kernels: run a quantized layer's integer arithmetic, fast, on this machine."""


@hookspec(historic=True)
def mono_quant_algorithms() -> Sequence[AlgorithmSpec]:  # type: ignore[empty-body]
    """Algorithms: rewrite the float model where the watched data flow proves that it stays the same function."""


@hookspec(historic=True)
def mono_quant_runtimes() -> Sequence[RuntimeSpec]:  # type: ignore[empty-body]
    """Runtimes: run a whole quantized model, with the weights and scales that it has."""


HOOKS = {
    mono_quant_observers.__name__: ObserverSpec,
    mono_quant_sources.__name__: SourceSpec,
    mono_quant_schemes.__name__: SchemeSpec,
    mono_quant_formats.__name__: FormatSpec,
    mono_quant_validators.__name__: ValidatorSpec,
    mono_quant_kernels.__name__: KernelSpec,
    mono_quant_algorithms.__name__: AlgorithmSpec,
    mono_quant_runtimes.__name__: RuntimeSpec,
}
"""Each hook's name and the type of the records it returns."""
