"""The file ``config.json`` of a folder: what it says of a quantization is replaced, everything else stays."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mono_quant.errors import ArtifactError
from mono_quant.io.limits import opened
from mono_quant.plugin_api import JSON, replacing

__all__ = ["NAME", "quantization_of", "read_config", "write_config"]

NAME = "config.json"
_METHOD = "compressed-tensors"
_KEY = "quantization_config"
_LONGEST = 2**24


def read_config(folder: Path) -> dict[str, Any] | None:
    """What it says; None when there is none.

    Raises:
        ArtifactError: when it is no JSON object, or longer than any configuration is.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        with opened(path) as (file, size):
            if size > _LONGEST:
                raise ArtifactError(f"{path} has {size:,} bytes: it is no configuration of a model")
            # Infinity and NaN, which JSON has not, are in the configurations of some models.
            content = json.loads(file.read())
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ArtifactError(f"{path} is not a JSON object: it is a {type(content).__name__}")
    return content


def write_config(folder: Path, said: Mapping[str, Any] | None, quantization: Mapping[str, JSON]) -> None:
    """Write it with another quantization, or without one.

    Args:
        folder: that it stands in.
        said: what it said before.
        quantization: from `FolderFormat.config`; may be empty.
    """
    others = {key: value for key, value in (said or {}).items() if key not in (_KEY, "compression_config")}
    with replacing(folder / NAME) as temporary:
        text = json.dumps(others | dict(quantization), indent=2, ensure_ascii=False)
        temporary.write_text(f"{text}\n", encoding="utf-8")


def quantization_of(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What a configuration says of a quantization of this layout, where readers look for it; None for nothing."""
    config = config or {}
    text = config.get("text_config")
    inner = text.get(_KEY) if isinstance(text, dict) else None
    for found in (config.get(_KEY), inner, config.get("compression_config")):
        if isinstance(found, dict) and found.get("quant_method", _METHOD) == _METHOD and "config_groups" in found:
            return found
    return None
