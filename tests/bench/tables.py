"""Tables in Markdown."""

from collections.abc import Iterable, Iterator, Mapping

__all__ = ["table", "versions_text"]


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Its lines."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def versions_text(rows: Iterable[Mapping[str, str]]) -> str:
    """Each distribution with its version, or with all of them where rows differ."""
    found: dict[str, dict[str, None]] = {}
    for versions in rows:
        for name, version in versions.items():
            found.setdefault(name, {})[version] = None
    return ", ".join(f"{name} {' and '.join(versions)}" for name, versions in found.items()) or "none"
