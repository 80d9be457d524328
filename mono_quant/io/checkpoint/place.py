"""Where the bytes of a tensor lie: for reading and writing some rows of it by themselves."""

import json
from pathlib import Path

import attrs

from mono_quant.errors import ArtifactError
from mono_quant.io.checkpoint.header import METADATA_KEY
from mono_quant.io.checkpoint.tensor_info import TensorInfo

__all__ = ["Place", "read_places"]

_LENGTH_BYTES = 8


@attrs.frozen
class Place:
    """A tensor in a file.

    Args:
        path: of the file.
        offset: of its first byte.
        info: its dtype and shape; at least one axis where it is read by rows.
    """

    path: Path
    offset: int
    info: TensorInfo

    @property
    def row_bytes(self) -> int:
        """Bytes of each index of the first axis."""
        return self.info.nbytes // self.info.shape[0] if self.info.shape and self.info.shape[0] else 0


def read_places(path: Path, infos: dict[str, TensorInfo]) -> dict[str, Place]:
    """The places of tensors in a safetensors file that was opened before, by which its header is known to be sound.

    Raises:
        ArtifactError: when it is another file by now.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            entries = json.loads(file.read(length))
        begins = {name: entry["data_offsets"][0] for name, entry in entries.items() if name != METADATA_KEY}
        return {name: Place(path, _LENGTH_BYTES + length + begins[name], info) for name, info in infos.items()}
    except (OSError, ValueError, LookupError) as error:
        raise ArtifactError(f"{path} was replaced while it was read: {error}") from error
