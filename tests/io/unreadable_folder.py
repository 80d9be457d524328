"""A script that writes into a folder that it may not read, as nobody in particular: root may read every folder.

As on Windows, where no folder can be opened, its new name cannot be flushed to disk. Prints what became of an old file
there, as JSON.
"""

import contextlib
import json
import os
import stat
import sys
import tempfile
from pathlib import Path

from mono_quant._atomic import replacing

NOBODY = 65534


def main(folder: Path) -> None:
    path = folder / "model"
    path.write_text("old")
    path.chmod(0o440)
    folder.chmod(0o300)
    with replacing(path) as temporary:
        temporary.write_text("new")
    found = {"readable": os.access(folder, os.R_OK), "content": path.read_text(), "mode": oct(mode(path))}
    sys.stdout.write(json.dumps(found))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


if __name__ == "__main__":
    with contextlib.suppress(PermissionError):  # who is not root is somebody already
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        main(Path(name))
        Path(name).chmod(0o700)
