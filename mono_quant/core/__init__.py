"""Numerics and planning."""

from typing import TYPE_CHECKING

from mono_quant._lazy import lazy_attributes

if TYPE_CHECKING:
    from mono_quant.core.observers import MinMaxObserver as MinMaxObserver

__all__ = ["MinMaxObserver"]

# Lazy, because the numerics in this package stand below plugin_api and its observers above it.
__getattr__, __dir__ = lazy_attributes(__name__, {"MinMaxObserver": "mono_quant.core.observers"})
