"""Sizes as people say them."""

import math
import re

from mono_quant.errors import ConfigurationError

__all__ = ["bytes_of", "size_text"]

_SMALLEST_MB = 0.1
_UNITS = {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30}


def size_text(mb: float) -> str:
    """MB (2^20 bytes), or KB (2^10) below a tenth of one.

    >>> size_text(0.8), size_text(1.25 / 1024)
    ('0.80 MB', '1.25 KB')
    """
    return f"{mb:.2f} MB" if mb >= _SMALLEST_MB else f"{mb * 1024:.2f} KB"


def bytes_of(size: str | float) -> int:
    """``"25MB"``, of 2^20 bytes each, as in reports; a number is bytes.

    Raises:
        ConfigurationError: when it is neither.
    """
    if isinstance(size, int | float) and not isinstance(size, bool) and math.isfinite(size) and size >= 0:
        return int(size)
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(B|KB|MB|GB)\s*", str(size), re.IGNORECASE)
    if found is None:
        raise ConfigurationError(f'a size is like "25MB" or "1.5 GB", or a number of bytes; got {size!r}')
    return int(float(found[1]) * _UNITS[found[2].upper()])
