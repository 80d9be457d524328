"""Package attributes that are imported when first read, so that importing the package costs nothing."""

from collections.abc import Callable, Mapping
from importlib import import_module

__all__ = ["lazy_attributes"]


def lazy_attributes(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """Make a module's ``__getattr__`` (PEP 562) from a table of attribute name → defining module.

    >>> getter = lazy_attributes("somewhere", {"sqrt": "math"})
    >>> getter("sqrt")(9.0)
    3.0
    """

    def __getattr__(name: str) -> object:  # noqa: N807 - the name that Python looks for
        try:
            home = homes[name]
        except KeyError:
            message = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(message) from None
        return getattr(import_module(home), name)

    return __getattr__
