"""Writing a file so that at every moment the target is the old one or the whole new one."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mono_quant.errors import ArtifactError

__all__ = ["flush_folder", "replacing"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside the target; when the block ends well it is flushed to disk and takes the target's name.

    When the block raises, the target is as it was, and nothing is beside it. A new target has the permissions
    that any new file gets, by the umask; one that is replaced keeps those it had.

        with replacing(path) as temporary:
            temporary.write_bytes(content)

    Raises:
        ArtifactError: when it cannot be written, in whatever way: in place of every `OSError`, also of the block's.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        if path.is_dir():  # found out before the block writes a whole model
            raise ArtifactError(f"{path} cannot be written: it is a folder; give the path of a file")
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
        flush_folder(path.parent)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Flush a file's new name to disk, where a folder can be opened: not on Windows, nor without the right to read."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
