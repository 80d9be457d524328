"""A file by `gguf.GGUFReader`, held to what it says before and after."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType
from mono_quant.errors import ArtifactError

from mono_quant_gguf.header import check_header

__all__ = ["Content", "StoredTensor", "json_object", "read"]


@attrs.frozen(eq=False)
class StoredTensor:
    """A tensor as it stands in a file.

    Args:
        data: its numbers, mapped copy-on-write; the bytes of blocks.
        kind: their type.
    """

    data: "np.ndarray[Any, Any]"
    kind: GGMLQuantizationType


@attrs.frozen(eq=False)
class Content:
    """A file.

    Args:
        tensors: by name.
        texts: keys whose values are text.
    """

    tensors: dict[str, StoredTensor]
    texts: dict[str, str]


def read(path: Path) -> Content:
    """What a file holds; nothing in it is run.

    Raises:
        ArtifactError: when it is no GGUF file, or is cut off, or its tensors do not lie one after another.
    """
    try:
        check_header(path)
        reader = GGUFReader(path, "c")
        _check_places(reader)
        return Content(dict(_tensors(reader)), dict(_texts(reader)))
    except ArtifactError as error:
        raise ArtifactError(f"{path} cannot be read as GGUF: {error}") from error
    except Exception as error:  # the reader is made for files that are what they say, and raises whatever comes of it
        raise ArtifactError(f"{path} cannot be read as GGUF: {type(error).__name__}: {error}") from error


def json_object(texts: Mapping[str, str], key: str) -> dict[str, Any] | None:
    """The JSON object that a key holds; None when there is no such key.

    Raises:
        ArtifactError: when it holds something else.
    """
    if key not in texts:
        return None
    try:
        found = json.loads(texts[key])
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"its {key} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ArtifactError(f"its {key} is no JSON object")
    return found


def _check_places(reader: GGUFReader) -> None:
    """Refuse holes, overlaps, and a file that ends too early or goes on."""
    expected = int(reader.data_offset)
    for tensor in reader.tensors:
        if int(tensor.data_offset) != expected:
            raise ArtifactError(f"tensor {tensor.name!r} does not lie behind the one before it")
        expected += int(tensor.n_bytes)
        expected += -expected % int(reader.alignment)
    if reader.data.nbytes != expected:
        raise ArtifactError(f"it has {reader.data.nbytes:,} bytes, and its tensors end at {expected:,}: is it cut off?")


def _tensors(reader: GGUFReader) -> Iterator[tuple[str, StoredTensor]]:
    for tensor in reader.tensors:
        yield tensor.name, StoredTensor(np.asarray(tensor.data), tensor.tensor_type)


def _texts(reader: GGUFReader) -> Iterator[tuple[str, str]]:
    for name, field in reader.fields.items():
        if field.types == [GGUFValueType.STRING]:
            yield name, str(field.contents())
