"""Damage that knows the format: a file is taken apart, one of its parts is changed, and it is put together again."""

import json
import pickletools
import struct
import warnings
import zipfile
from collections.abc import Callable
from io import BytesIO
from random import Random

from . import byte_mutations, json_mutations
from .subject import Good

_KEY = "mono_quant"
_LENGTH = struct.Struct("<Q")


def mutate(good: Good, random: Random, mark: str) -> tuple[str, bytes]:
    """The name of a mutation, and the bytes of the damaged file.

    Args:
        good: the file to be damaged.
        random: makes all choices.
        mark: the path of a file that code in the damaged file would make.
    """
    if random.random() < 0.4:
        return _of_bytes(good.content, random)
    if good.suffix == ".safetensors":
        change: Callable[[bytes, Random], bytes] = random.choice([_manifest, _manifest, _header])
        return change.__name__, change(good.content, random)
    if not good.content.startswith(b"PK"):
        return _of_bytes(good.content, random)
    return _archive(good.content, random, mark)


def _of_bytes(content: bytes, random: Random) -> tuple[str, bytes]:
    change = random.choice(byte_mutations.MUTATIONS)
    return change.__name__, change(content, random)


def _split(content: bytes) -> tuple[dict[str, object], bytes]:
    (length,) = _LENGTH.unpack_from(content)
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _join(text: str, data: bytes) -> bytes:
    header = text.encode(errors="surrogatepass")
    return _LENGTH.pack(len(header)) + header + data


def _manifest(content: bytes, random: Random) -> bytes:
    """The manifest in a header."""
    header, data = _split(content)
    metadata: dict[str, str] = header["__metadata__"]  # type: ignore[assignment]
    metadata[_KEY] = json_mutations.mutate(json.loads(metadata[_KEY]), random)
    return _join(json.dumps(header), data)


def _header(content: bytes, random: Random) -> bytes:
    """The header, the manifest only as one text in it."""
    header, data = _split(content)
    return _join(json_mutations.mutate(header, random), data)


def _archive(content: bytes, random: Random, mark: str) -> tuple[str, bytes]:
    """A record of an archive."""
    with zipfile.ZipFile(BytesIO(content)) as file:
        records = {name: file.read(name) for name in file.namelist()}
    pickled = next(name for name in records if name.endswith("data.pkl"))
    kind = random.choice(["manifest", "opcodes", "code", "bytes of the pickle", "records"])
    if kind == "manifest":
        records[pickled] = _manifest_in(records[pickled], random)
    elif kind in {"opcodes", "code"}:
        records[pickled] = _opcodes(records[pickled], random, mark if kind == "code" else "")
    elif kind == "bytes of the pickle":
        records[pickled] = random.choice(byte_mutations.MUTATIONS)(records[pickled], random)
    else:
        return kind, _written(_changed_records(records, random))
    return kind, _written(list(records.items()))


def _manifest_in(pickled: bytes, random: Random) -> bytes:
    """The manifest in a pickle, where there is one; its text is the last one."""
    texts = [(place, text) for opcode, text, place in pickletools.genops(pickled) if opcode.name == "BINUNICODE"]
    place, text = max(texts, key=lambda pair: len(pair[1]))
    if not text.startswith("{"):
        return _opcodes(pickled, random, "")
    changed = json_mutations.mutate(json.loads(text), random).encode(errors="surrogatepass")
    return pickled[: place + 1] + struct.pack("<I", len(changed)) + changed + pickled[place + 5 + len(text.encode()) :]


def _opcodes(pickled: bytes, random: Random, mark: str) -> bytes:
    """Opcodes removed, repeated, exchanged or changed; and a call that leaves a mark, when one is given."""
    places = [place for _, _, place in pickletools.genops(pickled)]
    chunks = [pickled[start:end] for start, end in zip(places, [*places[1:], len(pickled)], strict=True)]
    for _ in range(random.choice([1, 1, 2, 4])):
        at, other = random.randrange(len(chunks)), random.randrange(len(chunks))
        change = random.randrange(4)
        if change == 0:
            del chunks[at]
        elif change == 1:
            chunks.insert(at, chunks[other])
        elif change == 2:
            chunks[at], chunks[other] = chunks[other], chunks[at]
        else:
            chunks[at] = random.choice(_OPCODES)
    if mark:
        code = b"cbuiltins\neval\n(X%s%stR" % _text(f"open({mark!r}, 'w').close()")
        chunks.insert(random.randrange(len(chunks)), code)
    return b"".join(chunks)


def _text(text: str) -> tuple[bytes, bytes]:
    return struct.pack("<I", len(text.encode())), text.encode()


_OPCODES = [
    b"]", b"}", b")", b"(", b"t", b"\x85", b"\x86", b"R", b"b", b"s", b"u", b"a", b"e", b"Q", b"0", b"2", b".", b"N",
    b"\x88", b"\x89", b"\x81", b"K\xff", b"K\0", b"M\xff\xff", b"J\xff\xff\xff\xff", b"J\xff\xff\xff\x7f",
    b"\x8a\x09\0\0\0\0\0\0\0\0\1", b"\x8a\0", b"h\0", b"h\5", b"q\0", b"r\xff\xff\xff\xff", b"X\0\0\0\0", b"X\1\0\0\0x",
    b"ctorch\nTensor\n", b"ctorch\nFloatTensor\n", b"cbuiltins\nbytearray\n", b"ctorch\nCharStorage\n",
    b"ctorch\nComplexDoubleStorage\n", b"ctorch._utils\n_rebuild_sparse_tensor\n", b"ctorch\nbits8\n",
    b"ctorch._utils\n_rebuild_tensor_v3\n", b"ccollections\nOrderedDict\n", b"ctorch.nn.parameter\nParameter\n",
]  # fmt: skip


def _changed_records(records: dict[str, bytes], random: Random) -> list[tuple[str, bytes]]:
    """Records removed, exchanged, repeated, renamed, or with other bytes in them."""
    pairs = list(records.items())
    at, other = random.randrange(len(pairs)), random.randrange(len(pairs))
    name, content = pairs[at]
    change = random.randrange(5)
    if change == 0:
        del pairs[at]
    elif change == 1:
        pairs[at], pairs[other] = (name, pairs[other][1]), (pairs[other][0], content)
    elif change == 2:
        pairs.append((name, pairs[other][1]))
    elif change == 3:
        pairs[at] = (random.choice([name.upper(), f"x{name}", f"{name}x", "constants.pkl", "data.pkl"]), content)
    else:
        pairs[at] = (name, content[: random.randrange(len(content) + 1)] + random.randbytes(random.randrange(9)))
    return pairs


def _written(records: list[tuple[str, bytes]]) -> bytes:
    out = BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as file:
        warnings.simplefilter("ignore")  # of two records of one name
        for name, content in records:
            file.writestr(name, content)
    return out.getvalue()
