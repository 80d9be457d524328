"""Safetensors files whose header lies, repeats itself, or claims more than there is."""

import json
import struct
from collections.abc import Callable

from hostile_case import MANIFEST, Case, Scene, entry, header

FOUR = bytes(4)
ONE = entry([1], [0, 4])
TEXT = json.dumps(ONE).encode()


def cut(keep: Callable[[int], int]) -> Callable[[Scene], None]:
    """The good file up to a place that depends on the length of its header."""

    def make(scene: Scene) -> None:
        content = scene.good.read_bytes()
        scene.path.write_bytes(content[: keep(struct.unpack_from("<Q", content)[0])])

    return make


def longer(scene: Scene) -> None:
    scene.path.write_bytes(scene.good.read_bytes() + FOUR)


def with_twice(scene: Scene) -> None:
    """The metadata with our manifest, and once more with another one."""
    text = b'{"__metadata__":{"%s":"{}","format":"pt","%s":"{\\"ties\\":{}}"}}' % ((MANIFEST.encode(),) * 2)
    header(text)(scene)


def many_names(count: int) -> bytes:
    return b"{" + b",".join(b'"%d":{"dtype":"I8","shape":[0],"data_offsets":[0,0]}' % i for i in range(count)) + b"}"


def bad(name: str, make: Callable[[Scene], object], words: str) -> Case:
    return Case(name, (".safetensors",), make, words)


CASES = [
    bad("a file that ends in the length of its header", cut(lambda _: 5), "cut off"),
    bad("a file that ends before its header", cut(lambda _: 8), "cut off"),
    bad("a file that ends in its header", cut(lambda length: 8 + length // 2), "cut off"),
    bad("a file that ends before its tensors", cut(lambda length: 8 + length), "cannot be read"),
    bad("a file that ends in its tensors", cut(lambda length: 8 + length + 100), "cannot be read"),
    bad("a file with something behind its tensors", longer, "not fully covered"),
    bad("a header of no length", header(b"", length=0), "header"),
    bad("a header longer than any file", header(b"{}", length=2**63), "shorter than its header says"),
    bad("a header of length -1", header(b"{}", length=2**64 - 1), "shorter than its header says"),
    bad("a header of 40 MB without tensors", header(b'{"__metadata__":{"x":"%s"}}' % (b"x" * 40_000_000)), "most"),
    bad("a header that is not JSON", header(b"hello"), "header is damaged"),
    bad("a header that is a list", header([]), "header is damaged"),
    bad("a header that is null", header(b"null"), "header is damaged"),
    bad("a header that is not UTF-8", header(b'{"\xff":%s}' % TEXT, FOUR), "header is damaged"),
    bad("a header with something behind its end", header(b'{"x":%s}{}' % TEXT, FOUR), "behind its end"),
    bad("a header that begins with a mark of byte order", header(b'\xef\xbb\xbf{"x":%s}' % TEXT, FOUR), "header"),
    bad("two tensors of one name", header(b'{"x":%s,"x":%s}' % (TEXT, TEXT), FOUR), "'x' is there twice"),
    bad("two tensors of one name, spelt in two ways", header(b'{"x":%s,"\\u0078":%s}' % (TEXT, TEXT), FOUR), "twice"),
    bad("metadata with one key twice", with_twice, "'mono_quant' is there twice"),
    bad("metadata twice", header(b'{"__metadata__":{},"__metadata__":{}}'), "twice"),
    bad("metadata that is no text", header({"__metadata__": {"format": 3}}), "header is damaged"),
    bad("metadata that is null", header({"__metadata__": None}), "header is damaged"),
    bad("a tensor with a key that means nothing", header({"x": ONE | {"code": "y"}}, FOUR), "has the keys"),
    bad("a tensor with one key twice", header(b'{"x":{"dtype":"I8",%s}' % TEXT[1:] + b"}", FOUR), "twice"),
    bad("a tensor that is a list", header({"x": ["F32", [1], [0, 4]]}, FOUR), "header is damaged"),
    bad("a tensor without a shape", header({"x": {"dtype": "F32", "data_offsets": [0, 4]}}, FOUR), "has the keys"),
    bad("offsets beyond the end", header({"x": entry([2], [0, 8])}, FOUR), "cannot be read"),
    bad("offsets that are reversed", header({"x": entry([1], [4, 0])}, FOUR), "invalid offset"),
    bad("offsets that are negative", header({"x": entry([1], [-4, 0])}, FOUR), "cannot be read"),
    bad("tensors that overlap", header({"x": ONE, "y": ONE}, FOUR), "invalid offset"),
    bad("a hole between tensors", header({"x": ONE, "y": entry([1], [8, 12])}, bytes(12)), "invalid offset"),
    bad("a shape that does not fit the bytes", header({"x": entry([3], [0, 4])}, FOUR), "cannot be read"),
    bad("a shape whose product overflows", header({"x": entry([2**62, 4], [0, 0])}), "claims the shape"),
    bad("an empty tensor with a side that overflows", header({"x": entry([0, 2**63], [0, 0])}), "claims the shape"),
    bad("a shape with a negative side", header({"x": entry([-1], [0, 4])}, FOUR), "cannot be read"),
    bad("a shape of fractions", header({"x": entry([1.0], [0, 4])}, FOUR), "whole numbers"),
    bad("a shape of ten thousand sides", header({"x": entry([1] * 10_000, [0, 4])}, FOUR), "header is damaged"),
    bad("a shape of a hundred sides", header({"x": entry([1] * 100, [0, 4])}, FOUR), "at most 64"),
    bad("a dtype that does not exist", header({"x": entry([1], [0, 4], "F33")}, FOUR), "unknown variant"),
    bad("a dtype that torch does not have", header({"x": entry([16], [0, 12], "F6_E2M3")}, bytes(12)), "F6_E2M3"),
    bad("a million tensors of no size", header(many_names(1_000_000)), "most"),
    bad("a hundred thousand and one tensors of no size", header(many_names(100_001)), "more than 100,000 names"),
    bad("a torch file of that name", header(b"PK\3\4", length=0x0000080804034B50), "shorter than its header says"),
]
