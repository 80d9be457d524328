"""Every suite finds the bugs that are planted for it, each by the test that is there for it."""

import importlib
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from mono_quant.testing import ObserverSuite  # noqa: F401 - so that what the planted suites derive from is rewritten

PLANTED = Path(__file__).parent / "bugs"
KINDS = sorted(path.stem for path in PLANTED.glob("[!_]*.py"))


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Suite of a planted bug → the tests of it that fail, from one run of all of them."""
    report = tmp_path_factory.mktemp("bugs") / "report.xml"
    files = [str(PLANTED / f"{kind}.py") for kind in KINDS]
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", f"--junitxml={report}"]
    ran = subprocess.run([*command, *files], capture_output=True, text=True, check=False, cwd=PLANTED)  # noqa: S603
    assert ran.returncode == 1, ran.stdout[-3000:] + ran.stderr[-3000:]
    failed: dict[str, set[str]] = {}
    for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314 - pytest wrote it
        suite = failed.setdefault(case.attrib["classname"].rpartition(".")[2], set())
        if case.find("failure") is not None or case.find("error") is not None:
            suite.add(case.attrib["name"].partition("[")[0])
    return failed


def finds() -> list[tuple[str, str]]:
    modules = [importlib.import_module(f"bugs.{kind}") for kind in KINDS]
    return [(suite.__name__, test) for module in modules for suite, test in module.FINDS.items()]


@pytest.mark.parametrize(("suite", "test"), [(suite, test) for suite, test in finds() if test])
def test_the_planted_bug_is_found(suite: str, test: str, failures: dict[str, set[str]]):
    assert test in failures[suite]


@pytest.mark.parametrize("suite", [suite for suite, test in finds() if not test])
def test_what_the_bugs_are_planted_in_is_right(suite: str, failures: dict[str, set[str]]):
    assert failures[suite] == set()


def test_who_writes_no_state_is_told_what_to_do():
    observers = importlib.import_module("bugs.observers")
    with pytest.raises(AssertionError, match=r"write state\(\) and load_state\(\), or declare keeps_no_state"):
        observers.TestWritesNoState().test_the_state_before_data_is_empty()


def test_there_are_many_of_every_kind():
    counted = {kind: len(importlib.import_module(f"bugs.{kind}").FINDS) for kind in KINDS}
    assert sum(counted.values()) >= 25
    assert min(counted.values()) >= 5
