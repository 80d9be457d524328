"""Compiling a model by the runtime that was named, or by the fastest there is."""

from collections.abc import Mapping, Sequence

from torch import nn

from mono_quant.errors import CompilationError
from mono_quant.plugin_api.source import Batch
from mono_quant.runtimes.agreement import Reference
from mono_quant.runtimes.comparison import NamedRuntime, RuntimeTiming, compare_runtimes, compile_by, details_of
from mono_quant.runtimes.compiled_model import CompiledModel
from mono_quant.runtimes.remembered import question, recall, remember

__all__ = ["compile_model", "fastest", "remember_comparison"]


def compile_model(model: nn.Module, example: Batch, named: NamedRuntime) -> CompiledModel:
    """The model as a runtime runs it.

    Raises:
        CompilationError: when it cannot, or does not give what the reference kernels give.
    """
    name, runtime = named
    compiled, _ = compile_by(named, model, example, Reference(model, example))
    return CompiledModel(compiled, runtime=name, details=details_of(runtime, compiled))


def fastest(
    model: nn.Module, example: Batch, runtimes: Sequence[NamedRuntime], versions: Mapping[str, str]
) -> CompiledModel:
    """The model as the runtime runs it that is the fastest on the example, by a measurement that is made once.

    Args:
        model: quantized, in eval mode.
        example: a real batch.
        runtimes: to choose from.
        versions: of what gives them, with which the measurement is kept.

    Raises:
        CompilationError: when none runs the model.
    """
    key = question(model, example, runtimes, versions)
    known, by_name = recall(key), dict(runtimes)
    name = _fastest(known)
    if name in by_name:
        try:
            compiled = compile_model(model, example, (name, by_name[name]))
        except CompilationError:
            pass  # no longer so: measured again
        else:
            compiled.timings = tuple(known)
            return compiled
    timings, models = compare_runtimes(model, example, runtimes)
    name = _fastest(timings)
    if name not in models:
        reasons = "; ".join(f"{timing.runtime}: {timing.why_not}" for timing in timings)
        raise CompilationError(f"no runtime runs this model: {reasons or 'none is installed'}")
    remember(key, timings)
    return CompiledModel(models[name], runtime=name, details=details_of(by_name[name], models[name]), timings=timings)


def remember_comparison(
    model: nn.Module,
    example: Batch,
    runtimes: Sequence[NamedRuntime],
    versions: Mapping[str, str],
    timings: Sequence[RuntimeTiming],
) -> None:
    """Keep what `compare_runtimes` measured of all runtimes there are, for `fastest`."""
    remember(question(model, example, runtimes, versions), timings)


def _fastest(timings: Sequence[RuntimeTiming]) -> str:
    times = {timing.runtime: timing.ms for timing in timings if timing.ms is not None}
    return min(times, key=times.__getitem__, default="")
