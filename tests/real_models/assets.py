"""Finding the weights and the data that installed packages carry, without importing those packages."""

from importlib import metadata
from pathlib import Path

__all__ = ["REQUIREMENTS", "MissingAssetError", "asset", "missing", "pins", "require"]

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


class MissingAssetError(LookupError):
    """A real model was asked for and a package that it is made from is not installed."""


def pins(*distributions: str) -> tuple[str, ...]:
    """The ``name==version`` lines of `REQUIREMENTS` for these distributions.

    >>> pins("torchcrepe")
    ('torchcrepe==0.0.24',)

    Raises:
        KeyError: when a distribution is not pinned there.
    """
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    by_name = {line.partition("==")[0]: line for line in lines if "==" in line and not line.startswith("#")}
    return tuple(by_name[distribution] for distribution in distributions)


def missing(requirements: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the ``name==version`` requirements that are not installed, or not in that version."""
    return tuple(requirement for requirement in requirements if not _is_installed(requirement))


def require(requirements: tuple[str, ...], *, owner: str) -> None:
    """Check that all of the ``name==version`` requirements are installed.

    Raises:
        MissingAssetError: naming the owner, each requirement that is missing, and where to read how to install them.
    """
    absent = missing(requirements)
    if absent:
        message = f"{owner} needs {', '.join(absent)}; to install, see tests/real_models/__init__.py"
        raise MissingAssetError(message)


def asset(distribution: str, path: str) -> Path:
    """The file or folder at `path`, relative to where `distribution` is installed.

    Raises:
        MissingAssetError: when the distribution is not installed, or has nothing at that path.
    """
    (requirement,) = pins(distribution)
    require((requirement,), owner=path)
    found = Path(str(metadata.distribution(distribution).locate_file(path)))
    if not found.exists():
        message = f"{requirement} is installed, but has no {path}"
        raise MissingAssetError(message)
    return found


def _is_installed(requirement: str) -> bool:
    name, _, version = requirement.partition("==")
    try:
        return metadata.version(name) == version
    except metadata.PackageNotFoundError:
        return False
