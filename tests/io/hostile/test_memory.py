"""To refuse a file takes memory in proportion to the file, whatever it claims."""

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

from hostile_case import Case, Scene
from hostile_table import ALL

HERE = Path(__file__).parent
GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_ARENA_MAX": "1"}
"""An environment in which glibc keeps no memory that was freed, where the next file could be read unnoticed."""


def test_no_hostile_file_takes_more_memory_than_its_size_and_64_mb(good_files: dict[str, Path], tmp_path: Path):
    cases: dict[str, Case] = {}
    for index, (case, suffix) in enumerate(ALL):
        folder = tmp_path / str(index)
        folder.mkdir()
        cases[str(folder / f"bad{suffix}")] = case
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of what it saves for some of these files
            case.make(Scene(good_files[suffix], folder / f"bad{suffix}", folder / "mark"))
    answers = said_in_little_memory(list(good_files.values()), list(cases))
    # Where memory ran out, the reason given is another one.
    assert [answers[path] for path, case in cases.items() if not is_as_ever(case, *answers[path])] == []
    assert len(answers) == len(ALL)
    assert not list(tmp_path.glob("*/mark"))


def is_as_ever(case: Case, as_model: str, as_tensors: str) -> bool:
    refused_as_ever = bool(as_model) and re.search(case.words, as_model)
    return refused_as_ever and (not as_tensors if case.tensors_are_fine else re.search(case.words, as_tensors))


def said_in_little_memory(good: list[Path], bad: list[str]) -> dict[str, tuple[str, str]]:
    """What loading each file as a model, and as tensors, said in a process with a limit."""
    folders = [*sys.path[1:], str(HERE.parent), str(HERE.parents[1])]
    ran = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, HERE / "load_in_little_memory.py"],
        input=json.dumps([list(map(str, good)), bad]),
        capture_output=True, text=True, check=False,
        env={**os.environ, **GIVES_BACK, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(folders)},
    )  # fmt: skip
    assert ran.returncode == 0, f"ended with {ran.returncode} after {ran.stderr[-2000:]}"
    answers: dict[str, tuple[str, str]] = json.loads(ran.stdout)
    return answers
