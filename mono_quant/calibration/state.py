"""Leaving a model as it was, whatever its ``forward`` writes into it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from mono_quant.core.originals import Originals, Writes
from mono_quant.errors import CalibrationError, PluginError
from mono_quant.modules import QuantizedModule

__all__ = ["State", "restoring", "untouched"]

_TABLES = ("_parameters", "_buffers", "_modules")


class State:
    """What a model is before it runs, to be put back as often as needed.

    Kept are the bits of its tensors, which are copied when they are about to be written into (see `Originals`), and
    which object each attribute is. What is inside other Python objects, as the items of a list, is not.

    Quantized layers are left out: nothing writes into them when they run, and what they have packed is to stay.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = [(name, m) for name, m in model.named_modules() if not isinstance(m, QuantizedModule)]
        tensors = {f"{name}.{key}".lstrip("."): t for name, m in modules for key, t in _tensors(m).items()}
        self._scripted = [(m, _tensors(m)) for _, m in modules if isinstance(m, torch.jit.ScriptModule)]
        # A lazy module becomes one of another class in its first run.
        plain = [m for _, m in modules if not isinstance(m, torch.jit.ScriptModule) and not _is_lazy(m)]
        tables = [table for m in plain for table in (vars(m), *(vars(m)[name] for name in _TABLES))]
        self._tables: list[tuple[dict[str, Any], dict[str, Any]]] = [(table, dict(table)) for table in tables]
        self.originals = Originals(tensors)

    def restore(self) -> list[str]:
        """Put everything back.

        Returns:
            As `Originals.restore`.
        """
        for table, kept in self._tables:
            if not _are_same(table, kept):
                table.clear()
                table.update(kept)
        for module, tensors in self._scripted:
            for name, tensor in tensors.items():
                if getattr(module, name) is not tensor:
                    setattr(module, name, tensor)
        return self.originals.restore()


@contextmanager
def restoring(model: nn.Module) -> Iterator[State]:
    """Afterwards the model is as it was, also when an error is raised.

    Raises:
        CalibrationError: when it cannot be, since a tensor was written into where it was not seen.
    """
    state = State(model)
    try:
        yield state
    except BaseException:
        state.restore()
        raise
    if lost := state.restore():
        raise CalibrationError(
            f"{type(model).__name__}.forward wrote into {', '.join(map(repr, lost))} where it could not be seen, in "
            "another thread or not before a later batch: that cannot be undone. Let it leave its tensors alone in eval "
            "mode, or give a copy"
        )


@contextmanager
def untouched(who: str, *models: nn.Module, copied: bool = False) -> Iterator[None]:
    """Around a plugin's work with models that it must leave as they are: what it wrote into them is put back.

    Args:
        who: works here, for the message: ``"scheme 'mine'"``.
        models: whose parameters, buffers and modes are watched, quantized layers and all.
        copied: copy all of them before, rather than what is about to be written: for a layer and many small operations,
            each of which takes several times as long when somebody looks at it.

    Raises:
        PluginError: when it wrote into one of them.
    """
    modes = {module: module.training for model in models for module in model.modules()}
    tensors = [{**dict(model.named_parameters()), **dict(model.named_buffers())} for model in models]
    originals = [Originals(named) for named in tensors]
    changed: list[str] = []
    for one, named in zip(originals, tensors, strict=True) if copied else ():
        for tensor in named.values():
            one.save(tensor)
    try:
        with nullcontext() if copied else Writes(*originals):
            yield
    finally:
        changed += [name for one in originals for name in one.changed()]
        changed += ["training" for module, mode in modes.items() if module.training is not mode][:1]
        changed += [name for one in originals for name in one.restore()]
        for module, mode in modes.items():
            module.training = mode
    if changed:
        raise PluginError(f"{who} wrote into {', '.join(map(repr, changed))} of a model that it must leave as it is")


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Its own parameters, buffers and plain attributes that are tensors, by name."""
    tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return dict(tensors) | {name: value for name, value in vars(module).items() if isinstance(value, Tensor)}


def _is_lazy(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.lazy.LazyModuleMixin) and module.has_uninitialized_params()


def _are_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(value is other[key] for key, value in one.items())
