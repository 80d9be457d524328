"""A checkpoint that is open for reading."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from types import MappingProxyType, TracebackType
from typing import Self

from safetensors import SafetensorError
from torch import Tensor

from mono_quant.errors import ArtifactError
from mono_quant.io.checkpoint.tensor_info import TensorInfo
from mono_quant.io.json_text import parse_object
from mono_quant.io.naming import naming
from mono_quant.plugin_api.artifact import JSON

__all__ = ["Checkpoint"]

_MANIFEST = "mono_quant"


class Checkpoint:
    """Tensors by name, each read when it is asked for; a context manager.

    Args:
        source: what errors call it, a path most often.
        infos: dtype and shape by name, in the order of the checkpoint.
        size: bytes of its files; what they say beside their tensors is read in proportion to it.
        metadata: what the file says beside its tensors.
        ties: further name → first name, where several names share one tensor; all of them are in ``infos``.
        reader: gives the tensor of a name that is in ``infos``.
        closing: what to release in the end.
    """

    def __init__(
        self,
        source: str,
        infos: Mapping[str, TensorInfo],
        *,
        reader: Callable[[str], Tensor],
        size: int = 0,
        metadata: Mapping[str, str] | None = None,
        ties: Mapping[str, str] | None = None,
        closing: ExitStack | None = None,
    ) -> None:
        self.source = source
        self.infos: Mapping[str, TensorInfo] = MappingProxyType(dict(infos))
        self.metadata: Mapping[str, str] = MappingProxyType(dict(metadata or {}))
        self.ties: Mapping[str, str] = MappingProxyType(dict(ties or {}))
        self.size = size
        self._reader: Callable[[str], Tensor] | None = reader
        self._closing = closing or ExitStack()

    def manifest(self) -> dict[str, JSON] | None:
        """What mono_quant wrote beside the tensors; None when it did not write the checkpoint.

        Raises:
            ArtifactError: when it is not well formed, or more than a checkpoint of this size may have.
        """
        text = self.metadata.get(_MANIFEST)
        with naming(self.source):
            return None if text is None else parse_object(text, self.size)

    def read(self, name: str) -> Tensor:
        """The tensor alone, on the device where it is; drop it before the next one, and do not write into it.

        Raises:
            ArtifactError: when there is none of this name, or it cannot be read, or the checkpoint is closed.
        """
        if self._reader is None:
            raise ArtifactError(f"{self.source} is closed: read its tensors inside of the with block")
        if name not in self.infos:
            raise ArtifactError(f"{self.source} has no tensor {name!r}")
        try:
            return self._reader(name)
        except (SafetensorError, RuntimeError, OSError, MemoryError) as error:
            raise ArtifactError(f"{self.source}: tensor {name!r} cannot be read: {error}") from error

    def close(self) -> None:
        """Release the files; what was read stays."""
        self._reader = None
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[str]:
        return iter(self.infos)

    def __len__(self) -> int:
        return len(self.infos)

    def __contains__(self, name: object) -> bool:
        return name in self.infos
