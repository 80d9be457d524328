"""The good files that hostile ones are made of."""

from pathlib import Path

import pytest

from mono_quant import QuantizationResult


@pytest.fixture(scope="session")
def good_files(result: QuantizationResult, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved quantized `Everything` by suffix."""
    folder = tmp_path_factory.mktemp("good")
    files = {suffix: folder / f"good{suffix}" for suffix in (".safetensors", ".pt")}
    for path in files.values():
        result.save(path)
    return files
