"""A peer, and what it makes of a model."""

from collections.abc import Callable, Mapping
from importlib import import_module, metadata
from pathlib import Path
from typing import Protocol, cast

import attrs
from torch import Tensor, nn

from ..setting import Setting
from ..workloads import Inputs

__all__ = ["Build", "Built", "Peer"]


@attrs.frozen
class Built:
    """A model as a peer runs it.

    Args:
        call: one of the workload's inputs → its output.
        save: writes what has to be shipped to run it, into a folder.
        details: a few words about what it ran on, asked for after the last call.
    """

    call: Callable[[Inputs], Tensor]
    save: Callable[[Path], object]
    details: Callable[[], str] = attrs.field(default=lambda: "")


class Build(Protocol):
    """The function ``build`` of a runner's file."""

    def __call__(self, model: nn.Module, calibration: list[Inputs], setting: Setting, /, **options: object) -> Built:
        """Quantize and compile for inputs of the calibration's shape; the model is left as it is."""


@attrs.frozen
class Peer:
    """A way to run a model.

    Its file in this folder is imported only where it is measured: it imports what may not be installed.

    Args:
        name: for the command line and the page.
        file: in this folder.
        workloads: what it is measured on.
        needs: distributions that must be installed.
        options: for the file's ``build``.
        why_not_limited: why no environment variable limits its instruction set, if so.
    """

    name: str
    file: str
    workloads: tuple[str, ...]
    needs: tuple[str, ...] = ()
    options: Mapping[str, object] = attrs.field(factory=dict)
    why_not_limited: str = ""

    def why_not(self, setting: Setting) -> str:
        """Why it cannot be measured here, or nothing."""
        absent = [name for name in self.needs if not _is_installed(name)]
        if absent:
            return f"not installed: {', '.join(absent)}"
        return self.why_not_limited if setting.is_limited else ""

    def build(self, model: nn.Module, calibration: list[Inputs], setting: Setting) -> Built:
        """What it makes of a model."""
        return self._build(model, calibration, setting, **self.options)

    def load(self) -> None:
        """Import its file, and with it what it runs on."""
        _ = self._build

    @property
    def _build(self) -> Build:
        return cast("Build", import_module(f".{self.file}", __package__).build)


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
