"""Putting other modules in place of some of a model's."""

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mono_quant.errors import ConfigurationError

__all__ = ["copy_with", "put_in_place"]

_HOOK_TABLES = (
    "_forward_hooks",
    "_forward_hooks_always_called",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
)
_TABLES = ("_parameters", "_buffers", "_modules")

_TORCHS_OWN = frozenset(vars(nn.Module()))
"""Attributes of every module that torch itself keeps its tables in."""


def copy_with(
    model: nn.Module,
    replacements: Mapping[str, nn.Module],
    *,
    without_tensors: bool = False,
    sharing_tensors: bool = False,
) -> nn.Module:
    """A copy of the model with other modules in it; neither the model nor the replaced modules are copied or changed.

    A module that stands in several places, or in plain Python containers, is replaced in all of them. The hooks that
    users put on it go on in what takes its place, those that are methods of the model as methods of the copy. Modules,
    buffers and other values that it shares with what takes its place are copied with the rest of the model: what stands
    in several places is one in the copy, and what is itself replaced is replaced there too.

    Args:
        model: what to copy.
        replacements: name → the module that comes there.
        without_tensors: leave the parameters and persistent buffers empty, on the ``meta`` device, to be loaded into.
        sharing_tensors: leave parameters and buffers those of the model, for a copy that is run only where everything
            is put back.

    Raises:
        ConfigurationError: when the model cannot be copied.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    # deepcopy takes what is in its memo as already copied: that is the whole replacement.
    memo: dict[int, object] = {id(modules[name]): replacement for name, replacement in replacements.items()}
    if sharing_tensors:
        memo.update((id(tensor), tensor) for tensor in [*model.parameters(), *model.buffers()])
    if without_tensors:
        stored = model.state_dict(keep_vars=True)
        memo.update((id(tensor), _empty(tensor)) for tensor in stored.values() if isinstance(tensor, Tensor))
    try:
        copied: nn.Module = copy.deepcopy(model, memo)
        for name, replacement in replacements.items():
            _take_along(replacement, modules[name], memo)
    except Exception as error:  # a model's attributes can refuse to be copied in any way
        raise ConfigurationError(
            f"{type(model).__name__} cannot be copied ({type(error).__name__}: {error}); quantize it with inplace=True "
            "and validators=(), which needs no copy"
        ) from error
    return copied


def put_in_place(model: nn.Module, replacements: Mapping[str, nn.Module]) -> nn.Module:
    """The model itself with other modules in it, which take over the hooks of those that they replace.

    What they share with those stays shared; where that holds a module that is itself replaced, it holds the other one.

    Raises:
        ConfigurationError: when the model is itself the layer to be replaced.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    by_identity = {id(modules[name]): replacement for name, replacement in replacements.items()}
    if id(model) in by_identity:
        raise ConfigurationError(
            "the model is itself a single layer, which cannot be replaced in place; use inplace=False"
        )
    roots = (model, *replacements.values())
    parents = {id(parent): parent for root in roots for parent in root.modules() if id(parent) not in by_identity}
    for parent in parents.values():
        children = parent._modules  # noqa: SLF001 - named_children leaves out the second name of a child
        for child_name, child in children.items():
            if id(child) in by_identity:
                children[child_name] = by_identity[id(child)]
        for attribute, value in vars(parent).items():
            if isinstance(value, list | dict | tuple) and attribute not in _TORCHS_OWN:
                vars(parent)[attribute] = _swapped(value, by_identity)
    for name, replacement in replacements.items():
        for table in _HOOK_TABLES:
            setattr(replacement, table, getattr(modules[name], table))
    return model


def _take_along(replacement: nn.Module, replaced: nn.Module, memo: dict[int, object]) -> None:
    """Give it copies of the hooks and of what else it shares, in the way in which its class says that it is copied."""
    theirs, ours = vars(replaced), vars(replacement)
    ours.update({table: theirs[table] for table in _HOOK_TABLES})
    attributes = {name: value for name, value in ours.items() if name not in _TORCHS_OWN}
    for one, other in ((attributes, theirs), *((ours[table], theirs[table]) for table in _TABLES)):
        own = (value for name, value in one.items() if other.get(name) is not value)
        memo.update((id(value), value) for value in own if id(value) not in memo)  # taken as it is
    as_copied = vars(copy.deepcopy(replacement, memo))
    ours.clear()
    ours.update(as_copied)


def _swapped(value: Any, by_identity: Mapping[int, nn.Module]) -> Any:  # noqa: ANN401 - a value of the type of `value`
    """Plain containers with other modules in them; lists and dictionaries are changed where they are."""
    if isinstance(value, list):
        value[:] = [_swapped(inner, by_identity) for inner in value]
    elif isinstance(value, dict):
        value.update({key: _swapped(inner, by_identity) for key, inner in value.items()})
    elif type(value) is tuple:
        return tuple(_swapped(inner, by_identity) for inner in value)
    return by_identity.get(id(value), value)


def _empty(tensor: Tensor) -> Tensor:
    empty = tensor.detach().to("meta")
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
