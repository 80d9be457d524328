"""Package attributes that are imported when first read, so that importing the package costs nothing."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module

__all__ = ["lazy_attributes"]


def lazy_attributes(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Make a module's ``__getattr__`` and ``__dir__`` (PEP 562) from a table of attribute name → defining module.

    >>> getter, lister = lazy_attributes("mono_quant", {"sqrt": "math"})
    >>> getter("sqrt")(9.0)
    3.0
    >>> "sqrt" in lister()
    True
    """

    def __getattr__(name: str) -> object:  # noqa: N807 - the name that Python looks for
        try:
            home = homes[name]
        except KeyError:
            message = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(message) from None
        return getattr(import_module(home), name)

    def __dir__() -> list[str]:  # noqa: N807 - the same
        return sorted({*vars(sys.modules[package]), *homes})

    return __getattr__, __dir__
