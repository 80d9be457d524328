"""For all tests: models here can be imported, random numbers do not change, the cache of the user is left alone."""

from collections.abc import Iterator

import pytest
import torch

collect_ignore_glob = ["conftest.py", "*/conftest.py"]
"""They hold no doctests, and two of them under one name cannot both be imported as modules."""


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONO_QUANT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
