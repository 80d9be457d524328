"""A script in which no file may grow past a limit, as on a full disk. Usage: ``full_disk.py <folder>``.

Tries both formats and several limits, and prints one JSON list of what became of an old file at the same place.
"""

import json
import resource
import sys
from pathlib import Path

import torch

from mono_quant import save_model

SMALL = {"x": torch.arange(4)}
LARGE = {f"x{i}": torch.ones(1000) for i in range(50)}
LIMITS = (0, 10_000, 200_000)


def attempt(path: Path, limit: int) -> dict[str, object]:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    save_model(SMALL, path)
    content = path.read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    message = ""
    try:
        save_model(LARGE, path)
    except Exception as error:  # noqa: BLE001 - the test says which it must be
        message = f"{type(error).__name__}: {error}"
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    return {
        "path": str(path),
        "message": message,
        "old file is whole": path.read_bytes() == content,
        "files": [other.name for other in path.parent.iterdir()],
    }


def main(folder: Path) -> None:
    attempts = []
    for suffix in (".safetensors", ".pt"):
        for limit in LIMITS:
            place = folder / f"{suffix}-{limit}"
            place.mkdir()
            attempts.append(attempt(place / f"model{suffix}", limit))
    sys.stdout.write(json.dumps(attempts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
