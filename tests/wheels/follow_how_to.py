"""Follow ``docs/how-to/write-an-observer.md`` from an empty folder, and nothing else.

    python tests/wheels/follow_how_to.py

Run in a virtual environment of its own, where mono-quant, pytest and hatchling are installed; ``nox -s plugin_new``
does so. What the page shows with a file name is written, what it shows for a shell is run. At the end the observer
must be listed, and the file that the page makes must have been made with it.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "docs"))

import doc_pages  # noqa: E402 - found by the line above

PAGE = REPOSITORY / "docs" / "how-to" / "write-an-observer.md"


def main() -> None:
    """Follow the page."""
    with tempfile.TemporaryDirectory(prefix="mono_quant-") as temporary:
        folder = Path(temporary)
        for block in doc_pages.blocks(PAGE):
            follow(block, folder)
        plugins = {plugin["name"]: plugin for plugin in json.loads(shell("monoquant plugins --json", folder))}
        require(plugins["spread"]["status"] == "active", "`monoquant plugins` lists it")
        inspected = json.loads(shell("monoquant inspect int8.safetensors --json", folder))["manifest"]
        require(inspected["config"]["observer"] == {"name": "spread", "options": {}}, "the file was made with it")
        require("mono-quant-spread" in inspected["versions"], "and says from which distribution it is")


def follow(block: doc_pages.Block, folder: Path) -> None:
    """Write, run in Python, or run in a shell."""
    named = re.match(r"# ([\w./-]+\.py)\n", block.body)
    if block.info == "python" and named:
        write(folder / named[1], block.body)
    elif block.info == "python":
        write(folder / "tried.py", block.body)
        shell(f"{sys.executable} tried.py", folder)
    elif block.info == "console":
        for command in re.findall(r"^\$ (.+)$", block.body, re.MULTILINE):
            shell(command, folder)
    elif block.info == "bash":
        shell(block.body, folder)


def write(path: Path, text: str) -> None:
    """Write a file of the page."""
    require(path.parent.is_dir(), f"the page writes {path.name} into a folder that is there")
    path.write_text(text, encoding="utf-8")


def shell(commands: str, folder: Path) -> str:
    """What the commands print; each must succeed."""
    sys.stdout.write("".join(f"$ {line}\n" for line in commands.strip().splitlines()))
    ran = subprocess.run(  # noqa: S603 - the commands of our own page
        ["/bin/bash", "-e", "-c", commands], cwd=folder, capture_output=True, text=True, check=False
    )
    require(ran.returncode == 0, f"it succeeds\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
    return ran.stdout


def require(fact: object, words: str) -> None:
    """Say what holds, or exit with 1."""
    sys.stdout.write(f"{'ok' if fact else 'NOT OK'}: {words if not fact else words.splitlines()[0]}\n")
    if not fact:
        sys.exit(1)


if __name__ == "__main__":
    main()
