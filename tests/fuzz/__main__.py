"""Load damaged files for a time; whatever is neither refused nor right is printed, kept, and makes the exit code 1.

The files are loaded in a process of its own, so that a crash of it is a finding too.
"""

import argparse
import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .session import Session

AT = "at"
"""The file in which the number of the file that is being tried is noted."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time, printed")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="try one file, in this process")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), metavar="FOLDER")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    seed = time.time_ns() % 10**6 if arguments.seed is None else arguments.seed
    if arguments.folder is not None:
        return work(seed, arguments.seconds, arguments.folder, arguments.keep)
    with tempfile.TemporaryDirectory(prefix="mono_quant-fuzz-") as folder:
        if arguments.only is not None:
            return report(Session(seed, Path(folder)), seed, arguments.only, arguments.keep)
        return supervise(seed, arguments.seconds, Path(folder), arguments.keep)


def work(seed: int, seconds: float, folder: Path, keep: Path) -> int:
    """Try files until the time is over."""
    session = Session(seed, folder)
    session.check_good_files()
    end, failed, tried = time.monotonic() + seconds, 0, 0
    for index in itertools.count():
        if time.monotonic() > end:
            break
        (folder / AT).write_text(str(index))
        failed |= report(session, seed, index, keep)
        tried += 1
    for outcome, count in sorted(session.outcomes.items()):
        sys.stdout.write(f"{count:7,}  {outcome}\n")
    sys.stdout.write(f"{tried:7,}  in all, seed {seed}\n")
    return failed


def report(session: Session, seed: int, index: int, keep: Path) -> int:
    """Try one file; print and keep it when something is wrong."""
    finding = session.try_one(index)
    if finding is None:
        return 0
    keep_file(finding.path, seed, index, f"{finding.what}: {finding.problem}", keep)
    return 1


def supervise(seed: int, seconds: float, folder: Path, keep: Path) -> int:
    """Run `work` in a process of its own."""
    command = [sys.executable, "-X", "faulthandler", "-m", __spec__.name, "--seed", str(seed), "--keep", str(keep)]
    ended = subprocess.run([*command, "--seconds", str(seconds), "--folder", str(folder)], check=False)  # noqa: S603
    if ended.returncode < 0:
        index = int((folder / AT).read_text())
        newest = max(folder.glob("damaged.*"), key=lambda path: path.stat().st_mtime_ns)
        keep_file(newest, seed, index, f"the process ended with signal {-ended.returncode}", keep)
    return 0 if ended.returncode == 0 else 1


def keep_file(path: Path, seed: int, index: int, what: str, keep: Path) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    kept = keep / f"{seed}-{index}{path.suffix}"
    shutil.copy(path, kept)
    sys.stdout.write(f"{kept}: {what}\n  again: python -m tests.fuzz --seed {seed} --only {index}\n")


if __name__ == "__main__":
    sys.exit(main())
