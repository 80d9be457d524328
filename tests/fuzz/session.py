"""One run over damaged files: numbered, so that each can be made again."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import attrs

from .file_mutations import mutate
from .judge import Judge
from .subject import Good, make_good


@attrs.frozen
class Finding:
    """A damaged file with which something went wrong."""

    index: int
    what: str
    problem: str
    path: Path


class Session:
    """Makes damaged files in a folder and loads them.

    Args:
        seed: another one gives other files.
        folder: for the one file that is being tried.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        self._seed = seed
        self._folder = folder
        self._good = make_good(folder)
        self.outcomes: Counter[str] = Counter()
        first = folder / f"model{self._good[0].suffix}"
        first.write_bytes(self._good[0].content)
        self._judge = Judge(first)

    def check_good_files(self) -> None:
        """What is not damaged loads.

        Raises:
            AssertionError: when it does not.
        """
        for good in self._good:
            path = self._path(good)
            path.write_bytes(good.content)
            outcome, problem = self._judge.judge(path, self._folder / "mark")
            assert (outcome, problem) == ("loaded/loaded" if good.is_model else "refused/loaded", ""), good.name

    def run(self, indices: Iterator[int]) -> Iterator[Finding | None]:
        """Try damaged files by their numbers."""
        for index in indices:
            yield self.try_one(index)

    def try_one(self, index: int) -> Finding | None:
        """Make a damaged file and load it; what was found, if anything."""
        random = Random(f"{self._seed}:{index}")  # noqa: S311 - to be repeated
        good = random.choice(self._good)
        mark = self._folder / "mark"
        kind, content = mutate(good, random, str(mark))
        path = self._path(good)
        path.write_bytes(content)
        outcome, problem = self._judge.judge(path, mark)
        self.outcomes[f"{good.name}, {kind.strip('_')}: {outcome}"] += 1
        return Finding(index, f"{good.name}, {kind.strip('_')}", problem, path) if problem else None

    def _path(self, good: Good) -> Path:
        return self._folder / f"damaged{good.suffix}"
