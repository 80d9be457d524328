"""For all tests: the models in this folder can be imported, and random numbers are the same in every run."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    torch.manual_seed(0)
