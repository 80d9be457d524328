"""A place to install fake distributions into, which leaves no trace."""

import sysconfig
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path

import pytest
import torch
from fake_distributions import Site
from torch import nn

from mono_quant._plugins import discovery, manager
from mono_quant._plugins.discovery import refresh

SWITCHES = tuple(
    f"MONO_QUANT_{switch}"
    for switch in ("DISABLE_AUTOLOAD", "ALLOW_PLUGINS", "BLOCK_PLUGINS", "STRICT_PLUGINS", "TRACE_PLUGINS")
)


@pytest.fixture(autouse=True)
def no_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says, each test begins with nothing switched."""
    for switch in SWITCHES:
        monkeypatch.delenv(switch, raising=False)


def _is_really_installed(point: EntryPoint) -> bool:
    """Whether it is of a distribution besides mono-quant that stands where this Python keeps them."""
    place = Path(str(point.dist.locate_file(""))).resolve()
    return place == Path(sysconfig.get_path("purelib")).resolve() and point.dist.name != "mono-quant"


@pytest.fixture(autouse=True)
def nothing_else_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever is installed where the tests run, each test begins with mono_quant alone."""

    def of_the_test(*, group: str) -> EntryPoints:
        return EntryPoints(point for point in entry_points(group=group) if not _is_really_installed(point))

    monkeypatch.setattr(discovery, "entry_points", of_the_test)
    refresh()
    yield
    refresh()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty folder in front of ``sys.path``, and a process that has warned of nothing yet."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(manager, "_warned", set())
    site = Site(tmp_path)
    yield site
    site.forget_modules()
    refresh()


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


@pytest.fixture
def batches() -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randn(8, 6) for _ in range(3)]
