"""Opening whatever holds tensors by name."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mono_quant.errors import ArtifactError, ConfigurationError
from mono_quant.io.checkpoint.checkpoint import Checkpoint
from mono_quant.io.checkpoint.index import INDEX_SUFFIX
from mono_quant.io.checkpoint.plain_tensors import find_ties, plain_tensors
from mono_quant.io.checkpoint.pytorch_file import open_pytorch
from mono_quant.io.checkpoint.regular import require_regular
from mono_quant.io.checkpoint.safetensors_file import open_safetensors
from mono_quant.io.checkpoint.sharded import open_sharded
from mono_quant.io.checkpoint.tensor_info import TensorInfo

__all__ = ["find_checkpoint", "open_checkpoint"]

_SAFETENSORS = ".safetensors"
_PYTORCH = (".pt", ".pth", ".bin")


def open_checkpoint(source: str | Path | Mapping[str, Tensor]) -> Checkpoint:
    """A ``state_dict``, or a checkpoint on disk, of which no more than one tensor at a time is in memory.

    Args:
        source: a mapping of tensors; a ``.safetensors`` file; a ``*.safetensors.index.json`` with its shards; a folder
            with one of these; or a ``.pt``, ``.pth`` or ``.bin`` file of ``torch.save`` with a ``state_dict``.

    Raises:
        ArtifactError: when the file or folder is none of these, or damaged.
        ConfigurationError: when it is no mapping or path at all.
    """
    if isinstance(source, Mapping):
        return _open_state_dict(source)
    if not isinstance(source, str | Path):
        raise ConfigurationError(
            f"weights are given as a state_dict or a path, not as a {type(source).__name__}; those of a module are its "
            "state_dict()"
        )
    path = find_checkpoint(Path(source)) if Path(source).is_dir() else Path(source)
    require_regular(path)
    if path.name.endswith(INDEX_SUFFIX):
        return open_sharded(path)
    if path.suffix == _SAFETENSORS:
        return open_safetensors(path)
    if path.suffix in _PYTORCH:
        return open_pytorch(path)
    kinds = ", ".join((_SAFETENSORS, INDEX_SUFFIX, *_PYTORCH))
    raise ArtifactError(f"{path} is no checkpoint by its name, which ends in one of {kinds}")


def find_checkpoint(folder: Path) -> Path:
    """The index in a folder, whatever files are beside it, or else the only safetensors file.

    Raises:
        ArtifactError: when there is none, or more than one.
    """
    try:
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise ArtifactError(f"{folder} cannot be read: {error}") from error
    indexes = [name for name in names if name.endswith(INDEX_SUFFIX)]
    files = [name for name in names if name.endswith(_SAFETENSORS)]
    both = [name for name in files if name.removesuffix(_SAFETENSORS) + INDEX_SUFFIX in indexes]
    found = [*indexes, *both] if indexes else files
    if len(found) != 1:
        what = f"{', '.join(found)}: name the one that is meant" if found else "no safetensors file or index"
        raise ArtifactError(f"{folder} holds {what}")
    return folder / found[0]


def _open_state_dict(state: Mapping[str, Tensor]) -> Checkpoint:
    tensors = plain_tensors(state, "the state_dict")
    infos = {name: TensorInfo.of(tensor) for name, tensor in tensors.items()}
    return Checkpoint("the state_dict", infos, reader=tensors.__getitem__, ties=find_ties(tensors))
