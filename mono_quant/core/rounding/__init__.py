"""Choosing the codes of weights by the outputs on real inputs: what the algorithms that do so have in common."""

from mono_quant.core.rounding.code_chooser import CodeChooser, CodeProblem

__all__ = ["CodeChooser", "CodeProblem"]
