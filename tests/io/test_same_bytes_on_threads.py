"""The same inputs give the same files on one thread and on two, in new processes, whatever kernels are fastest."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import threaded


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    made = []
    for threads in (1, 2):
        folder = tmp_path_factory.mktemp(f"threads-{threads}")
        # Each with a cache of its own: nothing that one has measured serves the other.
        own = {"OMP_NUM_THREADS": "2", "PYTHONHASHSEED": str(threads), "MONO_QUANT_CACHE": str(folder / "cache")}
        command = [sys.executable, "-W", "error", threaded.__file__, str(threads), str(folder)]
        subprocess.run(command, check=True, env=os.environ | own)  # noqa: S603 - the command stands in a test
        made.append(folder)
    return made


@pytest.mark.parametrize("name", threaded.RUNS)
@pytest.mark.parametrize("suffix", ["safetensors", "statistics"])
def test_one_thread_and_two_give_the_same_bytes(folders: list[Path], name: str, suffix: str):
    one, two = ((folder / f"{name}.{suffix}").read_bytes() for folder in folders)
    assert one == two
