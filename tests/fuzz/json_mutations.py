"""Changes of a JSON value that keep it JSON, or almost."""

import copy
import json
from collections.abc import Iterator
from random import Random
from typing import Any

_VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 2**31, 2**63, 2**64, 10**400, 0.5, 1e308, "", "x", "../../etc/passwd", "os:system",
    "\x1b[2J", "\ud800", "int4", "float64", "per-tensor", "per-channel(7)", "per-group(0)", [], [[]], [1, 2], [0], [-1],
    {}, {"name": "x"}, {"": {}}, "_dynamo", "int8-static", "float16", "up", "conv", "cell", "weight", "up.weight",
]  # fmt: skip
_TEXTS = ["NaN", "Infinity", "-Infinity", "1e999", "[" * 5000, '{"a":' * 200, "'x'", "", "0x1", "1" * 5000]
"""What may stand in place of a value in the text."""

Place = tuple[str | int, ...]
Json = Any
"""Any value that JSON has."""


def mutate(value: Json, random: Random) -> str:
    """The text of the value with one to three changes."""
    value = copy.deepcopy(value)
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        random.choice([_replace, _replace, _remove, _rename, _swap, _add, _scale])(value, random)
    text = json.dumps(value)
    if random.random() < 0.1:
        return _damage_text(text, random)
    return text


def _places(value: object, here: Place = ()) -> Iterator[Place]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield (*here, key)
        yield from _places(one, (*here, key))


def _pick(value: Json, random: Random, *, kind: type = object) -> tuple[Any, Any]:
    """Something in the value and the key under which it stands there, an index where it is a list."""
    pairs = []
    for place in _places(value):
        parent = value
        for key in place[:-1]:
            parent = parent[key]
        if isinstance(parent, kind):
            pairs.append((parent, place[-1]))
    return random.choice(pairs) if pairs else ({"x": 1}, "x")


def _replace(value: Json, random: Random) -> None:
    parent, key = _pick(value, random)
    parent[key] = copy.deepcopy(random.choice(_VALUES))


def _scale(value: Json, random: Random) -> None:
    """A number becomes one near it."""
    numbers = [(p, k) for p, k in (_pick(value, random) for _ in range(30)) if type(p[k]) is int]
    for parent, key in numbers[:1]:
        parent[key] = random.choice([parent[key] + 1, parent[key] - 1, -parent[key], parent[key] * 2, str(parent[key])])


def _remove(value: Json, random: Random) -> None:
    parent, key = _pick(value, random)
    del parent[key]


def _rename(value: Json, random: Random) -> None:
    parent, key = _pick(value, random, kind=dict)
    parent[random.choice([f"{key}x", key[:-1], key.upper(), "", "name", "weight", *map(str, parent)])] = parent.pop(key)


def _swap(value: Json, random: Random) -> None:
    (one, key), (other, other_key) = _pick(value, random), _pick(value, random)
    one[key], other[other_key] = copy.deepcopy(other[other_key]), copy.deepcopy(one[key])


def _add(value: Json, random: Random) -> None:
    parent, key = _pick(value, random)
    if isinstance(parent, list):
        parent.insert(key, copy.deepcopy(random.choice([*_VALUES, parent[key]])))
    else:
        parent[random.choice(["surprise", "__class__", "options", f"{key} ", "ties"])] = copy.deepcopy(parent[key])


def _damage_text(text: str, random: Random) -> str:
    """No JSON any more, or with one key twice."""
    start = random.randrange(len(text))
    colon = text.find(": ", start)
    if colon < 0 or random.random() < 0.3:
        return text[:start] + text[start + random.randrange(1, 20) :]
    comma = min((place for place in (text.find(mark, colon) for mark in ",}]") if place >= 0), default=len(text))
    if random.random() < 0.5:
        key = text.rfind('"', 0, colon - 1)
        return text[:comma] + ", " + text[key:comma] + text[comma:]
    return text[: colon + 2] + random.choice(_TEXTS) + text[comma:]
