"""Load files, each with no more memory than its size and 64 MB: ``python load_in_little_memory.py < request``.

What is limited is the address space, so an allocation counts that is not written to, or given back at once.
"""

import json
import re
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from everything import Everything

from mono_quant import Quantizer, load_model
from mono_quant.errors import MonoQuantError

ALLOWED = 64 * 2**20
LONGEST = 30
"""Seconds for one file; then the process is ended."""


def main() -> None:
    """Read ``[good, bad]``, two lists of paths; write path → what `Quantizer.load` and `load_model` said."""
    good, bad = json.load(sys.stdin)
    skeleton, quantizer = Everything(), Quantizer(kernel="reference")
    loads = [lambda path: quantizer.load(path, skeleton), load_model]
    for path in good:
        assert [said(load, path) for load in loads] == ["", ""]
    answers = {}
    for path in bad:
        sys.stderr.write(f"{path}\n")
        signal.alarm(LONGEST)
        size = Path(path).stat().st_size if Path(path).is_file() else 0
        resource.setrlimit(resource.RLIMIT_AS, (address_space() + size + ALLOWED, resource.RLIM_INFINITY))
        answers[path] = [said(load, path) for load in loads]
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    sys.stdout.write(json.dumps(answers))


def said(load: Callable[[str], object], path: str) -> str:
    """The message of the error; empty when it loads."""
    try:
        load(path)
    except MonoQuantError as error:
        return str(error)
    return ""


def address_space() -> int:
    """Bytes that this process has mapped."""
    return int(re.search(r"VmSize:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


if __name__ == "__main__":
    main()
