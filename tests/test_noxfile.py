"""What the noxfile reads out of the distributions; needs nox itself, which its own sessions do not have."""

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("nox")

NOXFILE = Path(__file__).parents[1] / "noxfile.py"

Needs = Callable[..., list[str]]


@pytest.fixture(scope="module")
def noxfile() -> dict[str, object]:
    """Once: nox lets no session be registered twice."""
    return runpy.run_path(str(NOXFILE))


@pytest.fixture
def needs(noxfile: dict[str, Callable[[Path], list[str]]], tmp_path: Path) -> Needs:
    """What the noxfile says of a distribution with these dependencies."""

    def of(*dependencies: str) -> list[str]:
        project = f"[project]\nname = 'x'\ndependencies = {list(dependencies)!r}\n"
        (tmp_path / "pyproject.toml").write_text(project)
        return noxfile["needs"](tmp_path)

    return of


@pytest.mark.parametrize(
    "need",
    ["mono-quant", "mono-quant>=2", "Mono_Quant [testing] ~= 2.0", "torch>=2.9", "torch==2.9; python_version>'3'"],
)
def test_mono_quant_and_torch_are_there_already(needs: Needs, need: str):
    assert needs(need, "numpy>=1.26") == ["numpy>=1.26"]


@pytest.mark.parametrize(
    "need", ["mono-quant-numpy>=2", "mono-quant-numpy[extra]", "torchvision", "torch-geometric>=2"]
)
def test_what_only_begins_like_them_is_needed(needs: Needs, need: str):
    assert needs("mono-quant>=2", need, "torch>=2.9") == [need]
