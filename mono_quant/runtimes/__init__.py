"""Runtimes: what runs a whole quantized model, and the choice among them by measurement."""

from mono_quant.runtimes.choice import compile_model, fastest, remember_comparison
from mono_quant.runtimes.comparison import NamedRuntime, RuntimeTiming, compare_runtimes
from mono_quant.runtimes.compiled_model import CompiledModel
from mono_quant.runtimes.program import export_program

__all__ = [
    "CompiledModel",
    "NamedRuntime",
    "RuntimeTiming",
    "compare_runtimes",
    "compile_model",
    "export_program",
    "fastest",
    "remember_comparison",
]
