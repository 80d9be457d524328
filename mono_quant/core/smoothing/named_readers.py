"""The ``readers`` option: which layers read the output of a module, as the user says."""

from collections.abc import Mapping, Sequence

from mono_quant.errors import ConfigurationError

__all__ = ["as_readers"]


def as_readers(value: object) -> dict[str, tuple[str, ...]]:
    """Module → the layers that read it; nothing for None.

    Raises:
        ConfigurationError: when it is anything but names, each with a list of other names.
    """
    if value is None:
        return {}
    if isinstance(value, Mapping) and all(isinstance(name, str) and _is_list(some) for name, some in value.items()):
        return {name: tuple(some) for name, some in value.items()}
    raise ConfigurationError(
        f"readers must be modules by name, each with a list of the layers that read it, each once, got {value!r}"
    )


def _is_list(names: object) -> bool:
    if not isinstance(names, Sequence) or isinstance(names, str):
        return False
    return len(names) > 0 and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
