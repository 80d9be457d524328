"""Where a warning points: at the line of the user's that led to it, however deep in the package it is given."""

import inspect

__all__ = ["level_of_the_user"]

_PROJECT = __name__.partition(".")[0]


def level_of_the_user() -> int:
    """Stack level, as `warnings.warn` in the calling function counts, of what called mono_quant.

    A quantized layer is called by torch; then it is the level of what called torch.
    """
    frame, packages = inspect.currentframe(), []
    while frame is not None:
        packages.append(frame.f_globals.get("__name__", "").partition(".")[0])
        frame = frame.f_back
    level = max(level for level, package in enumerate(packages) if package == _PROJECT) + 1
    while packages[level : level + 1] == ["torch"]:
        level += 1
    return level
