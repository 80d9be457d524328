"""Runtimes beside each other: compiled, compared with the reference kernels, timed in turn."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import attrs
from torch import nn

from mono_quant.calibration.timing import time_in_turns
from mono_quant.errors import CompilationError, ConfigurationError, MonoQuantError
from mono_quant.plugin_api.runtime import Runtime
from mono_quant.plugin_api.source import Batch
from mono_quant.runtimes.agreement import Reference

__all__ = ["NamedRuntime", "RuntimeTiming", "compare_runtimes", "compile_by", "details_of"]

NamedRuntime = tuple[str, Runtime]

_LONGEST_S = 60.0


@attrs.frozen(kw_only=True)
class RuntimeTiming:
    """What was measured of one runtime.

    Args:
        runtime: its name.
        ms: median milliseconds a batch; None when it does not run the model.
        sqnr_db: of its output against the reference kernels; None where that was not compared.
        compile_s: seconds until the first batch had run.
        details: in its own words, as the precision of floats.
        why_not: why it does not run the model.
        was_tried: whether there was time to.
    """

    runtime: str
    ms: float | None = None
    sqnr_db: float | None = None
    compile_s: float | None = None
    details: str = ""
    why_not: str = ""
    was_tried: bool = True


def compile_by(
    named: NamedRuntime, model: nn.Module, example: Batch, reference: Reference
) -> tuple[nn.Module, float | None]:
    """The model as a runtime runs it, once it agrees with the reference kernels, and its SQNR against them.

    Raises:
        CompilationError: when it does not, or the runtime cannot run the model.
    """
    name, runtime = named
    with _naming(name):
        why_not = runtime.supports(model).why_not
    if why_not:
        raise CompilationError(f"runtime {name!r} cannot run this model here: {why_not}")
    with _naming(name):
        compiled = runtime.compile(model, example)
        if not isinstance(compiled, nn.Module):
            raise TypeError(f"compile() must give an nn.Module, got {type(compiled).__name__}")
    return compiled, reference.sqnr_db(compiled, f"runtime {name!r}")


def compare_runtimes(
    model: nn.Module,
    example: Batch,
    runtimes: Sequence[NamedRuntime],
    *,
    beside: Mapping[str, nn.Module] | None = None,
    budget_s: float = _LONGEST_S,
) -> tuple[list[RuntimeTiming], dict[str, nn.Module]]:
    """Compile a model by several runtimes and let them take turns on one batch.

    Args:
        model: quantized, in eval mode.
        example: a real batch.
        runtimes: to compare; those that take long to compile come last.
        beside: other models to time in the same turns, by name.
        budget_s: seconds after which no further runtime is begun, and about which the turns take at most a tenth.

    Raises:
        ConfigurationError: when two have the same name.

    Returns:
        One record for each runtime and each model beside, in their order, and what was compiled, by name.
    """
    names = Counter([*(beside or {}), *(name for name, _ in runtimes)])
    if twice := [name for name, count in names.items() if count > 1]:
        raise ConfigurationError(f"{', '.join(map(repr, twice))} is given twice: compare them in two runs")
    end = time.perf_counter() + budget_s
    reference = Reference(model, example)
    compiled: dict[str, nn.Module] = {}
    found: dict[str, RuntimeTiming] = {name: RuntimeTiming(runtime=name) for name in beside or {}}
    for name, runtime in sorted(runtimes, key=lambda named: named[1].is_slow_to_compile):
        if compiled and time.perf_counter() > end:
            why_not = f"not tried within {budget_s:.0f} s"
            found[name] = RuntimeTiming(runtime=name, why_not=why_not, was_tried=False)
            continue
        start = time.perf_counter()
        try:
            compiled[name], sqnr_db = compile_by((name, runtime), model, example, reference)
        except MonoQuantError as error:
            found[name] = RuntimeTiming(runtime=name, why_not=str(error))
            continue
        seconds = time.perf_counter() - start
        found[name] = RuntimeTiming(runtime=name, sqnr_db=sqnr_db, compile_s=seconds)
    plain = {**(beside or {}), **{name: one for name, one in compiled.items() if one is model}}
    others = {name: one for name, one in compiled.items() if name not in plain}
    medians = time_in_turns([*plain.values()], example, compiled=[*others.values()], budget_s=budget_s / 10)
    times = dict(zip((*plain, *others), medians, strict=True))
    details = {name: details_of(runtime, compiled[name]) for name, runtime in runtimes if name in compiled}
    timings = [attrs.evolve(one, ms=times.get(name), details=details.get(name, "")) for name, one in found.items()]
    return timings, compiled


def details_of(runtime: Runtime, compiled: nn.Module) -> str:
    """What a runtime says of a model that it compiled; when that fails, how."""
    try:
        return runtime.details(compiled)
    except Exception as error:  # noqa: BLE001 - a third party's code can raise anything
        return f"details() raised {type(error).__name__}: {error}"


@contextmanager
def _naming(runtime: str) -> Iterator[None]:
    """Around a runtime's work: whatever it raises is a `CompilationError` that names it."""
    try:
        yield
    except CompilationError as error:
        raise CompilationError(f"runtime {runtime!r}: {error}") from error
    except Exception as error:  # a third party's code can raise anything
        raise CompilationError(f"runtime {runtime!r}: {type(error).__name__}: {error}") from error
