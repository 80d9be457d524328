"""Which other quantizer wrote a checkpoint, by small things in it."""

from pathlib import Path

from mono_quant.errors import ArtifactError
from mono_quant.io.foreign.optimum_quanto import MAPS
from mono_quant.io.foreign.reading import files_of, metadata_of

__all__ = ["recognized"]


def recognized(path: Path) -> str | None:
    """The name of the format that reads a checkpoint of others; None for our own, and for anything else."""
    try:
        files = [file for file in files_of(path) if file.name.endswith(".safetensors")]
        metadata = metadata_of(files[0]) if files else {}
    except ArtifactError:
        return None  # the format of the suffix will say what is wrong
    if not files or "mono_quant" in metadata:
        return None
    if "tensor_names" in metadata:
        return "torchao"
    return "optimum-quanto" if any((files[0].parent / name).exists() for name in MAPS) else None
