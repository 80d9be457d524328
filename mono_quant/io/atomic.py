"""Writing a file so that at every moment the target is the old one or the whole new one."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mono_quant.errors import ArtifactError

__all__ = ["replacing"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside the target; when the block ends well it is flushed to disk and takes the target's name.

    Raises:
        ArtifactError: when the folder does not exist or cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written: {error}") from error
    try:
        mode = (path if path.exists() else temporary).stat().st_mode & 0o777
        yield temporary
        with temporary.open("r+b") as file:  # to write, or Windows does not flush it
            temporary.chmod(mode)
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Flush a file's new name to disk, where a folder can be opened: not on Windows, nor without the right to read."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
