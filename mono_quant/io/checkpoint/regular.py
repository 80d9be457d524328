"""Paths that are read must be files: a pipe would be waited for, a device read without end."""

import stat
from pathlib import Path

from mono_quant.errors import ArtifactError

__all__ = ["require_regular"]


def require_regular(path: Path) -> None:
    """Refuse what is not a file with something in it.

    Raises:
        ArtifactError: naming it.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise ArtifactError(f"{path} is not a file")
    if not status.st_size:
        raise ArtifactError(f"{path} is empty")
