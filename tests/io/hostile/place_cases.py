"""Paths at which there is no file."""

import os
from collections.abc import Callable

from hostile_case import Case, Scene


def bad(name: str, make: Callable[[Scene], object], words: str) -> Case:
    return Case(name, (".safetensors", ".pt"), make, words)


def through_a_file(scene: Scene) -> None:
    """A link that leads through a file as if it were a folder."""
    scene.path.symlink_to(scene.good / "inside")


CASES = [
    bad("a file that is not there", lambda _: None, "No such file"),
    bad("a file of no bytes", lambda scene: scene.path.touch(), "cannot be read"),
    bad("a file of one byte", lambda scene: scene.path.write_bytes(b"x"), "cannot be read"),
    bad("a folder", lambda scene: scene.path.mkdir(), "not a file"),
    bad("a link to nothing", lambda scene: scene.path.symlink_to("nowhere"), "No such file"),
    bad("a link to itself", lambda scene: scene.path.symlink_to(scene.path), "cannot be read"),
    bad("a link through a file", through_a_file, "cannot be read"),
    bad("a pipe that nobody writes to", lambda scene: os.mkfifo(scene.path), "not a file"),
    bad("a device that gives zeros for ever", lambda scene: scene.path.symlink_to("/dev/zero"), "not a file"),
    bad(
        "a file of the system that has no size",
        lambda scene: scene.path.symlink_to("/proc/self/maps"),
        "cannot be read",
    ),
    bad("a hole of a terabyte", lambda scene: scene.path.touch() or os.truncate(scene.path, 2**40), "cannot be read"),
]
