"""Sizes for people."""

__all__ = ["size_text"]

_SMALLEST_MB = 0.1


def size_text(mb: float) -> str:
    """MB (2^20 bytes), or KB (2^10) below a tenth of one.

    >>> size_text(0.8), size_text(1.25 / 1024)
    ('0.80 MB', '1.25 KB')
    """
    return f"{mb:.2f} MB" if mb >= _SMALLEST_MB else f"{mb * 1024:.2f} KB"
