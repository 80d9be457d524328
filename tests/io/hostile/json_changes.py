"""Changes of a manifest that do not know what is in it."""

from collections.abc import Callable, Iterator
from typing import Any

Change = Callable[[dict[str, Any]], object]


def every(key: str, value: object) -> Change:
    """Give another value to a key, wherever it stands."""

    def change(data: dict[str, Any]) -> None:
        found = [node for node in nodes(data) if isinstance(node, dict) and key in node]
        assert found
        for node in found:
            node[key] = value

    return change


def nodes(data: object) -> Iterator[object]:
    """A JSON value and all values in it."""
    yield data
    for inner in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        yield from nodes(inner)


def renamed(field: str, old: str, new: str) -> Change:
    """Another name for an entry of a mapping, and for what calls itself so in it."""

    def change(data: dict[str, Any]) -> None:
        moved = data[field].pop(old)
        if isinstance(moved, dict) and "name" in moved:
            moved["name"] = new
        data[field][new] = moved

    return change
