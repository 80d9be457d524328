"""Tables for people."""

from collections.abc import Iterable, Sequence

__all__ = ["columns"]


def columns(rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> str:
    """Rows of cells as a table.

    >>> print(columns([("layer", "bytes"), ("up", "16")], right=[1]))
    layer  bytes
    up        16

    Args:
        rows: of the same number of cells.
        right: the columns whose cells end at one line; the others begin at one.
    """
    rows, right = list(rows), set(right)
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
