"""Where the weights stand in a checkpoint of training that is not read, so that its owner can be told."""

import zipfile
from pathlib import Path

__all__ = ["find_training_part"]

_USUAL = ("state_dict", "model_state_dict", "model", "module")
_LONGEST = 2**24


def find_training_part(path: Path) -> str | None:
    """The usual key that occurs first in the pickle of a file of ``torch.save``; nothing of it is unpickled."""
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            with archive.open(pickles[0]) as file:
                content = file.read(_LONGEST)
    except Exception:  # noqa: BLE001 - it is damaged, and an error about it is on its way
        return None
    places = {key: content.find(_pickled(key)) for key in _USUAL}
    return min((key for key, place in places.items() if place >= 0), key=places.__getitem__, default=None)


def _pickled(text: str) -> bytes:
    return b"X" + len(text).to_bytes(4, "little") + text.encode()
