"""The command, and a file that it made."""

from pathlib import Path

import pytest
from command_line import Commands


@pytest.fixture
def monoquant(capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(capsys)


@pytest.fixture
def saved(tmp_path: Path, monoquant: Commands) -> Path:
    """`cli_models.net`, quantized by a recipe of its own."""
    (tmp_path / "made-by.toml").write_text(
        'kernel = "reference"\nnum_samples = 2\nvalidators = ["sqnr", "weight-range", "load-run"]\n'
        '[overrides]\nhead = { scheme = "int8-dynamic" }\n'
    )
    path = tmp_path / "saved.safetensors"
    arguments = "quantize --quiet --model cli_models:net --data cli_models:images --recipe"
    ran = monoquant(arguments, tmp_path / "made-by.toml", "--output", path)
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    return path
