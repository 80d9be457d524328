"""Every value of a real manifest, changed one at a time: refused, whatever record it stands in."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile_case import read, write

from mono_quant import load_model
from mono_quant.errors import ArtifactError

Place = tuple[str | int, ...]
FREE = "options"
"""What stands under this key is a component's own business."""
OTHERS: dict[type, object] = {str: 7, int: "7", float: "0.5", bool: "yes", dict: [1], list: {"a": 1}, type(None): [[]]}
"""A value of another type for each type."""


@pytest.fixture
def manifest(good_files: dict[str, Path]) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(read(good_files[".safetensors"])[1])
    return data


@pytest.fixture
def accepts(good_files: dict[str, Path], tmp_path: Path) -> Callable[[Any], bool]:
    tensors, _ = read(good_files[".safetensors"])
    path = tmp_path / "changed.safetensors"

    def is_accepted(data: object) -> bool:
        write(path, tensors, json.dumps(data))
        try:
            load_model(path)
        except ArtifactError:
            return False
        return True

    return is_accepted


def places(value: object, here: Place = ()) -> Iterator[Place]:
    """Where each value in a JSON value stands."""
    yield here
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        if key != FREE:
            yield from places(one, (*here, key))


def at(data: Any, place: Place) -> Any:  # noqa: ANN401 - JSON
    for key in place:
        data = data[key]
    return data


def changed(data: dict[str, Any], place: Place, change: Callable[[Any, Any], object]) -> dict[str, Any]:
    """A copy in which the value at a place was changed, given what it stands in and its key."""
    copied = copy.deepcopy(data)
    change(at(copied, place[:-1]), place[-1])
    return copied


def test_the_manifest_itself_is_accepted(manifest: dict[str, Any], accepts: Callable[[Any], bool]):
    assert accepts(manifest)
    assert len(list(places(manifest))) > 80


def test_a_value_of_another_type_is_refused_wherever_it_stands(
    manifest: dict[str, Any], accepts: Callable[[Any], bool]
):
    def replace(parent: Any, key: Any) -> None:  # noqa: ANN401
        parent[key] = OTHERS[type(parent[key])]

    taken = [place for place in places(manifest) if place and accepts(changed(manifest, place, replace))]
    assert taken == []


def test_an_unknown_key_is_refused_wherever_it_stands(manifest: dict[str, Any], accepts: Callable[[Any], bool]):
    def add(parent: Any, key: Any) -> None:  # noqa: ANN401
        parent[key]["surprise"] = {"un": ["known"]}

    objects = [place for place in places(manifest) if place and isinstance(at(manifest, place), dict)]
    assert len(objects) > 15
    assert [place for place in objects if accepts(changed(manifest, place, add))] == []
    assert not accepts(manifest | {"surprise": 1})


def test_a_field_that_is_missing_is_refused(manifest: dict[str, Any], accepts: Callable[[Any], bool]):
    def remove(parent: Any, key: Any) -> None:  # noqa: ANN401
        del parent[key]

    for place in places(manifest):
        is_field = len(place) == 1 or (len(place) == 3 and place[0] in {"layers", "rewrites"})
        is_field = is_field and place[-1] != "handover"  # which files of before have not
        assert not (is_field and accepts(changed(manifest, place, remove))), place
