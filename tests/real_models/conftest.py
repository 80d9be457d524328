"""The fixture that gives each real model in turn."""

from operator import attrgetter

import pytest

from . import REAL_MODELS, RealModel

__all__ = ["real_model"]


@pytest.fixture(params=REAL_MODELS, ids=attrgetter("name"))
def real_model(request: pytest.FixtureRequest) -> RealModel:
    """Each of `REAL_MODELS`; the test is skipped, naming what to install, where one is missing."""
    model: RealModel = request.param
    if model.missing:
        pytest.skip(f"{model.name} needs {', '.join(model.missing)}")
    return model
