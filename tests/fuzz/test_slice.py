"""A few hundred damaged files, the same in every run; ``nox -s fuzz`` tries others, for as long as it is told to."""

from pathlib import Path

import pytest

from .session import Session

COUNT = 250


@pytest.mark.parametrize("seed", [1])
def test_a_damaged_file_is_refused_or_has_the_same_structure(seed: int, tmp_path: Path):
    session = Session(seed, tmp_path)
    session.check_good_files()
    findings = [finding for finding in session.run(iter(range(COUNT))) if finding]
    assert findings == []
    outcomes = " ".join(session.outcomes)
    assert "refused/refused" in outcomes
    assert "loaded/loaded" in outcomes
