"""Running the command, in this process or in one of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from mono_quant.cli import main

HERE = Path(__file__).parent


@attrs.frozen
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def json(self) -> Any:  # noqa: ANN401 - JSON
        assert self.code == 0, self.err
        return json.loads(self.out)


class Commands:
    """Runs commands in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, command: str, *arguments: str | Path) -> Ran:
        self.capsys.readouterr()
        try:
            code = main([*command.split(), *map(str, arguments)])
        except SystemExit as exit_:  # argparse
            code = exit_.code
        out, err = self.capsys.readouterr()
        return Ran(code, out, err)


def in_a_process(arguments: Sequence[str | Path], *, stdin: str = "", before: str = "") -> Ran:
    """Run ``python -m mono_quant`` where the modules of the tests can be imported."""
    ran = subprocess.run(  # noqa: S603 - the command stands in a test
        [sys.executable, *before.split(), "-m", "mono_quant", *map(str, arguments)],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)
