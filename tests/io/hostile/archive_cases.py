"""Torch files that are odd as zip archives: cut off, compressed, overlapping, read in two ways."""

import struct
import warnings
import zipfile
from collections.abc import Callable
from io import BytesIO

from hostile_case import Case, Scene, archive, memory, pickled, tensor

PICKLE = pickled({"x": tensor(memory(4), (4,))})
RECORDS = {"data.pkl": PICKLE, "data/0": bytes(16)}
END = 22
LOCATOR = 20


def cut(place: Callable[[bytes], int]) -> Callable[[Scene], None]:
    """The good file up to a place."""

    def make(scene: Scene) -> None:
        content = scene.good.read_bytes()
        scene.path.write_bytes(content[: place(content)])

    return make


def edited(
    change: Callable[[bytearray], object], base: Callable[[], bytes] = lambda: archive(RECORDS)
) -> Callable[[Scene], None]:
    """An archive with some of its bytes changed, or another one that takes its place."""

    def make(scene: Scene) -> None:
        content = bytearray(base())
        changed = change(content)
        scene.path.write_bytes(changed if isinstance(changed, bytes) else content)

    return make


def put(content: bytearray, at: int, layout: str, value: int) -> None:
    struct.pack_into(layout, content, at, value)


def in_directory(name: bytes, offset: int, layout: str, value: int) -> Callable[[bytearray], None]:
    """Change a field of the directory's entry of a record."""

    def change(content: bytearray) -> None:
        put(content, content.rindex(b"archive/" + name) - 46 + offset, layout, value)

    return change


def twice() -> bytes:
    out = BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as file:
        warnings.simplefilter("ignore")
        for name, content in [*RECORDS.items(), ("data.pkl", pickled({})), ("version", b"3\n")]:
            file.writestr(f"archive/{name}", content)
    return out.getvalue()


def two_folders() -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, content in [*RECORDS.items(), ("version", b"3\n")]:
            file.writestr(f"{'other' if name == 'data.pkl' else 'archive'}/{name}", content)
    return out.getvalue()


def onto_another(content: bytearray) -> None:
    """Let two records be the same bytes, as in the smallest zip bombs."""
    first, second = content.rindex(b"archive/version") - 46, content.rindex(b"archive/byteorder") - 46
    put(content, second + 42, "<L", struct.unpack_from("<L", content, first + 42)[0])


def with_locator(place: int) -> Callable[[bytearray], bytes]:
    """A second end of the directory, found only by readers that believe the locator."""

    def change(content: bytearray) -> bytes:
        end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, 46, 0)
        locator = struct.pack("<4sLQL", b"PK\6\7", 0, place, 1)
        return bytes(content[:-END]) + end + locator + bytes(content[-END:])

    return change


def bad(name: str, make: Callable[[Scene], object], words: str) -> Case:
    return Case(name, (".pt",), make, words)


CASES = [
    bad("a file that ends in its first bytes", cut(lambda _: 3), "does not begin as torch.save"),
    bad("a file that ends behind its first mark", cut(lambda _: 20), "cannot be read"),
    bad("a file that ends in its pickle", cut(lambda b: b.index(b"_rebuild_tensor")), "cut off or damaged"),
    bad("a file that ends in its memory", cut(lambda b: b.index(b"/data/1")), "cut off or damaged"),
    bad("a file that ends before its directory", cut(lambda b: b.index(b"PK\1\2")), "cut off or damaged"),
    bad("a file that ends in its directory", cut(lambda b: b.rindex(b"PK\1\2")), "cut off or damaged"),
    bad("a file that ends in the end of its directory", cut(lambda b: len(b) - 1), "cut off or damaged"),
    bad("an archive with something behind it", edited(lambda b: bytes(b) + b"more"), "cut off or damaged"),
    bad("an archive with a comment", edited(lambda _: archive(RECORDS, comment=b"hello")), "cut off or damaged"),
    bad("an archive with something before it", edited(lambda b: b"PK\3\4" + bytes(b)), "cut off or damaged"),
    bad(
        "an archive without records", edited(lambda b: b"PK\3\4" + bytes(b[-END:-14]) + bytes(14)), "cut off or damaged"
    ),
    bad("a compressed archive", edited(lambda _: archive(RECORDS, method=zipfile.ZIP_DEFLATED)), "compressed"),
    bad(
        "a compressed gigabyte of zeros",
        edited(lambda _: archive({"data.pkl": PICKLE, "data/0": bytes(2**26)}, method=zipfile.ZIP_DEFLATED)),
        "compressed",
    ),
    bad(
        "a record that claims to become four gigabytes",
        edited(in_directory(b"data/0", 24, "<L", 2**32 - 2)),
        "compressed",
    ),
    bad(
        "a record that claims to be four gigabytes",
        edited(lambda b: [in_directory(b"data/0", at, "<L", 2**32 - 2)(b) for at in (20, 24)]),
        "overlap|cut off|records",
    ),
    bad("an encrypted record", edited(in_directory(b"data/0", 8, "<H", 1)), "encrypted"),
    bad("a record that is elsewhere", edited(in_directory(b"data/0", 42, "<L", 1)), "not where the directory says"),
    bad("a record behind the end", edited(in_directory(b"data/0", 42, "<L", 2**31)), "cannot be read"),
    bad("two records in the same bytes", edited(onto_another), "not where the directory says|overlap"),
    bad("two records of one name", edited(lambda _: twice()), "not as torch writes it"),
    bad(
        "two records whose names differ in case",
        edited(lambda _: archive({**RECORDS, "DATA.pkl": pickled({})})),
        "not as torch writes it",
    ),
    bad("records in two folders", edited(lambda _: two_folders()), "not as torch writes it"),
    bad(
        "a record whose name has a zero byte in it",
        edited(lambda b: bytes(b).replace(b"byteorder", b"byte\0rder")),
        "not as torch writes it",
    ),
    bad(
        "a record whose name is not ASCII",
        edited(lambda b: bytes(b).replace(b"byteorder", b"byte\xffrder")),
        "cannot be read",
    ),
    bad(
        "a directory with fewer entries than it says",
        edited(lambda b: [put(b, len(b) - END + at, "<H", 5) for at in (8, 10)]),
        "cannot be read",
    ),
    bad(
        "a directory with more entries than it says",
        edited(lambda b: [put(b, len(b) - END + at, "<H", 3) for at in (8, 10)]),
        "not as torch writes it",
    ),
    bad("a directory on another disk", edited(lambda b: put(b, len(b) - END + 4, "<H", 1)), "cut off or damaged"),
    bad("a second directory for other readers", edited(with_locator(0)), "cut off or damaged"),
    bad("a locator that leads to the first bytes", edited(with_locator(2**63)), "cut off or damaged"),
    bad("an archive without a pickle", edited(lambda _: archive({"data/0": bytes(16)})), "no record 'data.pkl'"),
    bad(
        "an unknown order of bytes", edited(lambda _: archive({**RECORDS, "byteorder": b"sideways"})), "cannot be read"
    ),
    bad("a version that is no number", edited(lambda _: archive({**RECORDS, "version": b"new\n"})), "cannot be read"),
]
