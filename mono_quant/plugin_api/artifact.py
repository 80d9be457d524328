"""What a format stores: plain tensors and a manifest of JSON values."""

from collections.abc import Mapping

import attrs
from torch import Tensor

__all__ = ["JSON", "Artifact"]

JSON = dict[str, "JSON"] | list["JSON"] | str | int | float | bool | None
"""A value that survives a round trip through JSON."""


@attrs.frozen(eq=False)
class Artifact:
    """A quantized model as data.

    Args:
        tensors: the ``state_dict``, each shared tensor once.
        manifest: everything else that loading needs; None in a file that mono_quant did not write.
    """

    tensors: Mapping[str, Tensor]
    manifest: dict[str, JSON] | None = None
