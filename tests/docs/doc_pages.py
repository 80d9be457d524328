"""The Markdown pages of the project, and how their code runs.

In the order of the page, in one namespace and one working folder:

- a ``python`` block runs; when its first line is a comment with a file name, ``# my_model.py``, it is written there;
- a ``console`` block runs its ``$ monoquant`` lines, in this process; ``> file`` writes what they print.

A block marked ``python notest`` is left alone.
"""

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import attrs

from mono_quant.cli import main

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)]

_FENCE = re.compile(r"^(?P<fence>`{3,})(?P<info>[^`\n]*)\n(?P<body>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"# ([\w./-]+\.py)\n")


@attrs.frozen
class Block:
    """A fenced block: ``info`` stands behind its first fence, ``line`` is that of its first line of text."""

    info: str
    body: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for match in _FENCE.finditer(text):
        yield Block(match["info"].strip(), match["body"], text.count("\n", 0, match.start("body")) + 1)


def files(page: Path) -> Iterator[tuple[str, str]]:
    """The files that a page shows: name and text, without the comment that names it."""
    for block in blocks(page):
        if block.info == "python" and (named := _FILE_NAME.match(block.body)):
            yield named[1], block.body[named.end() :]


def run(page: Path) -> None:
    """Run all that runs on a page, in the current folder."""
    namespace: dict[str, object] = {"__name__": "__docs__"}
    for block in blocks(page):
        if block.info == "python" and (named := _FILE_NAME.match(block.body)):
            _write(named[1], block.body)
        elif block.info == "python":
            padding = "\n" * (block.line - 1)  # so that a traceback shows the line of the page
            exec(compile(padding + block.body, str(page), "exec"), namespace)  # noqa: S102 - this is what it is for
        elif block.info == "console":
            for command in re.findall(r"^\$ monoquant (.+)$", block.body, re.MULTILINE):
                _run_command(command)


def _write(name: str, text: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)


def _run_command(command: str) -> None:
    arguments, _, redirected = command.partition(" > ")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(shlex.split(arguments)) == 0, f"monoquant {arguments} failed"
    if redirected:
        Path(redirected).write_text(printed.getvalue())
