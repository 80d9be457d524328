"""For all tests: the models in this folder can be imported, and random numbers are the same in every run."""

import pytest
import torch

collect_ignore_glob = ["conftest.py", "*/conftest.py"]
"""They hold no doctests, and two of them under one name cannot both be imported as modules."""


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    torch.manual_seed(0)
