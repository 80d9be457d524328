"""AWQ: weights that meet large inputs are multiplied before they are rounded, which leaves them a smaller error."""

from mono_quant.core.awq.awq import AWQ

__all__ = ["AWQ"]
