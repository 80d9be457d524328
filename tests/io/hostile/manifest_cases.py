"""Files of either format whose manifest is no JSON, of another version, or contradicts itself."""

from collections.abc import Callable
from typing import Any

from hostile_case import Case, Scene, read, with_manifest, with_text
from json_changes import every

TERMINAL = "\x1b[2J\x1b]0;owned\x07"
"""What would clear a terminal and name its window."""
VERSION = '"format_version": 1'
VERSIONS: list[tuple[str, object, str]] = [
    ("0", 0, "manifest version 0"),
    ("2", 2, "manifest version 2"),
    ("-1", -1, "manifest version -1"),
    ("1, as a text", "1", "manifest version '1'"),
    ("null", None, "manifest version None"),
    ("a list", [1], r"manifest version \[1\]"),
    ("true", True, "not well formed|manifest version True"),
    ("1.0", 1.0, "not well formed|manifest version 1.0"),
    ("100 kB", "9" * 100_000, "more characters"),
    ("what acts on terminals", TERMINAL, "manifest version"),
]


def bad(name: str, make: Callable[[Scene], object], words: str) -> Case:
    return Case(name, (".safetensors", ".pt"), make, words)


def text(content: str) -> Callable[[Scene], None]:
    return lambda scene: with_text(scene, content)


def edited(change: Callable[[str], str]) -> Callable[[Scene], None]:
    """The good manifest with something changed in its text."""

    def make(scene: Scene) -> None:
        good = read(scene.good)[1]
        changed = change(good)
        assert changed != good
        with_text(scene, changed)

    return make


def version(written: str) -> Callable[[Scene], None]:
    """The good manifest with its version written in another way."""
    return edited(lambda good: good.replace(VERSION, written))


def metrics(**figures: float) -> Callable[[Scene], None]:
    return with_manifest(lambda data: data["metrics"].update(figures))


def ties(value: Any) -> Callable[[Scene], None]:  # noqa: ANN401 - JSON
    return with_manifest(lambda data: data.update(ties=value))


CASES = [
    bad("a manifest that is not JSON", text("hello"), "manifest is not JSON"),
    bad("an empty manifest", text(""), "manifest is not JSON"),
    bad("a manifest that is cut off", edited(lambda good: good[:-100]), "manifest is not JSON"),
    bad("a manifest with something behind it", edited(lambda good: good + "{}"), "manifest is not JSON"),
    bad("a manifest that is a list", text("[1]"), "manifest is not a JSON object"),
    bad("a manifest that is a number", text("3"), "manifest is not a JSON object"),
    bad("a manifest that is a text", text('"x"'), "manifest is not a JSON object"),
    bad("a manifest that is null", text("null"), "manifest is not a JSON object"),
    bad("a hundred thousand lists in each other", text("[" * 100_000), "manifest is not JSON"),
    bad("nine hundred objects in each other", text('{"a":' * 900 + "1" + "}" * 900), "manifest is not"),
    bad("a version of lists in each other", version(f'"format_version": {"[" * 100 + "]" * 100}'), "nested"),
    bad("ten million lists", text('{"ties": [' + "[]," * 10_000_000 + "[]]}"), "the most|more than"),
    bad("a manifest with one key twice", version(f"{VERSION}, {VERSION}"), "'format_version' occurs twice"),
    bad(
        "a layer that is there twice", edited(lambda good: good.replace('"up": {', '"up": {}, "up": {')), "'up' occurs"
    ),
    bad("a manifest with NaN", metrics(sqnr_db=float("nan")), "NaN is not a finite number"),
    bad("a manifest with Infinity", metrics(sqnr_db=float("inf")), "Infinity is not a finite number"),
    bad("a number that becomes infinite", version('"format_version": 1e999'), "1e999 is not a finite number"),
    bad("a number of five thousand digits", version(f'"format_version": {"9" * 5000}'), "manifest is not JSON"),
    *(
        bad(f"a version of {name}", with_manifest(every("format_version", value)), words)
        for name, value, words in VERSIONS
    ),
    bad("no version", with_manifest(lambda data: data.pop("format_version")), "manifest version None"),
    bad("no layers", with_manifest(lambda data: data.pop("layers")), "not well formed|no mono_quant manifest"),
    bad("a tie to a tensor that is not there", ties({"y": "missing"}), "ties 'y' to 'missing'"),
    bad("a tie to itself", ties({"count": "count"}), "has a tensor of that name"),
    bad("a tie to itself that is not there", ties({"y": "y"}), "ties 'y' to 'y', which the file has not"),
    bad("ties in a circle", ties({"y": "z", "z": "y"}), "which the file has not"),
    bad("a tie to a tie", ties({"y": "count", "z": "y"}), "ties 'z' to 'y'"),
    bad("a tie over a tensor that is there", ties({"halves": "count"}), "has a tensor of that name"),
    bad("a tie to a number", ties({"y": 3}), "ties|not well formed"),
    bad("a tie to a list", ties({"y": ["count"]}), "ties|not well formed"),
    bad("ties that are a list", ties(["y", "x"]), "ties"),
    bad("ties that are a text", ties("xy"), "ties"),
    bad("ties that are a truth value", ties(value=False), "ties"),
    bad("ties of a float model", text('{"ties": {"y": "missing"}}'), "ties 'y' to 'missing'|no mono_quant manifest"),
    bad("a recipe for no samples", with_manifest(every("num_samples", 0)), "not well formed"),
    bad("a recipe for half a sample", with_manifest(every("num_samples", 0.5)), "not well formed"),
    bad("a recipe for a call on failure", with_manifest(every("on_failure", "os.system")), "not well formed"),
]
