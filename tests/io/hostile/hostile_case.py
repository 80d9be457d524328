"""What a case of a hostile file is, and how files are made that no library would write."""

import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from mono_quant.errors import ArtifactError, MonoQuantError

MANIFEST = "mono_quant"
NO_GRADIENT = (False,)


@attrs.frozen
class Scene:
    """Where a case is played.

    Args:
        good: a file of a quantized `Everything`, in the format of the case.
        path: where the bad file goes.
        mark: a file that code in the bad file would make.
    """

    good: Path
    path: Path
    mark: Path


@attrs.frozen
class Case:
    """A file that must be refused.

    Args:
        name: a sentence.
        suffixes: the formats in which there is such a file.
        make: writes it.
        words: what the message says, as a regular expression.
        tensors_are_fine: whether `load_model`, which knows no model, gives the tensors.
        error: what `Quantizer.load` raises.
    """

    name: str
    suffixes: tuple[str, ...]
    make: Callable[[Scene], object]
    words: str = ""
    tensors_are_fine: bool = False
    error: type[MonoQuantError] = ArtifactError


def read(path: Path) -> tuple[dict[str, Tensor], str]:
    """Tensors and manifest of a good file, read by others than us."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).clone() for name in file.keys()}, file.metadata()[MANIFEST]  # noqa: SIM118
    content = torch.load(path, weights_only=True)
    return content["tensors"], content[MANIFEST]


def write(path: Path, tensors: Mapping[str, Tensor], text: str | None) -> None:
    """The other way round, whatever the text is."""
    if path.suffix == ".safetensors":
        save_file(dict(tensors), path, metadata={"format": "pt"} | ({} if text is None else {MANIFEST: text}))
    else:
        torch.save({"tensors": dict(tensors), MANIFEST: text}, path)


def with_text(scene: Scene, text: str | None) -> None:
    """The good file with another manifest text."""
    write(scene.path, read(scene.good)[0], text)


def with_manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Scene], None]:
    """The good file with something changed in its manifest."""

    def make(scene: Scene) -> None:
        data = json.loads(read(scene.good)[1])
        change(data)
        with_text(scene, json.dumps(data))

    return make


def with_tensors(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Scene], None]:
    """The good file with something changed in its tensors."""

    def make(scene: Scene) -> None:
        tensors, text = read(scene.good)
        change(tensors)
        write(scene.path, tensors, text)

    return make


def entry(shape: list[Any], offsets: list[int], dtype: str = "F32") -> dict[str, Any]:
    """A tensor in a safetensors header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def header(content: object, data: bytes = b"", *, length: int | None = None) -> Callable[[Scene], None]:
    """A safetensors file with any header, and any claim of its length."""
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    size = struct.pack("<Q", len(text) if length is None else length)
    return lambda scene: scene.path.write_bytes(size + text + data) and None


class Call:
    """Is pickled as a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


@attrs.frozen
class Reference:
    """Is pickled as an id of something outside of the pickle."""

    id: object


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: object) -> object:
        return value.id if isinstance(value, Reference) else None


def pickled(content: object, protocol: int = 2) -> bytes:
    """A pickle with calls and references in it."""
    out = BytesIO()
    _Pickler(out, protocol).dump(content)
    return out.getvalue()


def memory(count: int, key: str = "0", kind: object = torch.FloatStorage) -> Reference:
    """The id that torch gives the memory of a tensor."""
    return Reference(("storage", kind, key, "cpu", count))


def tensor(storage: object, shape: object, strides: object = (1,), offset: object = 0, hooks: object = None) -> Call:
    """The call that torch makes a tensor with."""
    hooks = Call(OrderedDict) if hooks is None else hooks
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, shape, strides, *NO_GRADIENT, hooks)


def archive(
    records: Mapping[str, bytes], *, folder: str = "archive", method: int = zipfile.ZIP_STORED, comment: bytes = b""
) -> bytes:
    """A zip archive with the records that torch looks for, and others."""
    usual = {"version": b"3\n", "byteorder": b"little"}
    out = BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        file.comment = comment
        for name, content in {**usual, **records}.items():
            file.writestr(f"{folder}/{name}", content)
    return out.getvalue()


def torch_file(content: object, *, data: bytes = bytes(16), protocol: int = 2) -> Callable[[Scene], None]:
    """A file as ``torch.save`` writes it, with ``content`` in its pickle and one piece of memory of 4 floats."""
    return lambda scene: (
        scene.path.write_bytes(archive({"data.pkl": pickled(content, protocol), "data/0": data})) and None
    )
