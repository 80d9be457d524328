"""Real models under the schemes: what it costs stays within bounds, the file is small and gives the same outputs."""

from functools import lru_cache
from pathlib import Path

import attrs
import pytest
import torch
from torch import nn

from mono_quant import QuantizationResult
from mono_quant.core.tensors import iter_tensors
from mono_quant.errors import ConfigurationError

from . import REAL_MODELS, SILERO, RealModel, run
from .bands import BANDS, LESS_IS_BETTER, Band
from .outcome import file_mb, output_sqnr_db
from .remembering import Remembering
from .schemes import quantizer_for

_BY_NAME = {model.name: model for model in REAL_MODELS}


@attrs.frozen(eq=False)
class Case:
    real_model: RealModel
    scheme: str
    band: Band
    floats: Remembering
    result: QuantizationResult


@pytest.fixture(scope="module", params=[(n, s) for n, bands in BANDS.items() for s in bands], ids="-".join)
def case(request: pytest.FixtureRequest) -> Case:
    """A model, quantized by a scheme for which there are bounds."""
    name, scheme = request.param
    real_model = _BY_NAME[name]
    if real_model.missing:
        pytest.skip(f"{name} needs {', '.join(real_model.missing)}")
    floats = _floats(name)
    data = real_model.calibration() if scheme.startswith("int8-static") else None
    result = quantizer_for(scheme, validators=["weight-range"]).quantize(floats.model, data)
    return Case(real_model, scheme, BANDS[name][scheme], floats, result)


@lru_cache(maxsize=1)
def _floats(name: str) -> Remembering:
    return Remembering(_BY_NAME[name].load())


def test_the_task_figures_stay_within_their_bounds(case: Case) -> None:
    figures = case.real_model.score(case.result.model, case.floats)
    worse = {
        figure: (figures[figure], bound)
        for figure, bound in case.band.figures.items()
        if (figures[figure] > bound if figure in LESS_IS_BETTER else figures[figure] < bound)
    }
    assert worse == {}
    assert case.band.figures.keys() == figures.keys()


def test_the_output_stays_as_near_to_that_of_float_as_it_was(case: Case) -> None:
    held_back = case.real_model.held_back()
    assert output_sqnr_db(case.floats, case.result.model, held_back) >= case.band.sqnr_db


def test_the_file_is_small_and_loads_to_the_same_outputs(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    case.result.save(path)
    assert path.stat().st_size / 2**20 / file_mb(case.floats.model) <= case.band.share
    loaded = quantizer_for(case.scheme).load(path, case.floats.model)
    assert all(map(torch.equal, _outputs(loaded, case), _outputs(case.result.model, case)))


def _outputs(model: nn.Module, case: Case) -> list[torch.Tensor]:
    with torch.no_grad():
        outputs = list(iter_tensors(run(model, case.real_model.held_back())))
    assert outputs
    return outputs


@pytest.fixture
def silero() -> RealModel:
    if SILERO.missing:
        pytest.skip(f"silero needs {', '.join(SILERO.missing)}")
    return SILERO


def test_a_scheme_without_a_layer_to_quantize_says_so(silero: RealModel) -> None:
    with pytest.raises(ConfigurationError, match="nothing would be quantized"):
        quantizer_for("int8-dynamic").quantize(silero.load())


def test_two_schemes_share_a_model(silero: RealModel, tmp_path: Path) -> None:
    model = silero.load()
    mixed = quantizer_for("int8-static", overrides={"lstm_cell": {"scheme": "int8-weight-only"}})
    result = mixed.quantize(model, silero.calibration())
    assert {layer.scheme for layer in result.plan.layers.values()} == {"int8-static", "int8-weight-only"}
    assert result.info.skipped_layers == {}
    assert silero.score(result.model, model)["agreement"] >= 0.985
    result.save(tmp_path / "model.pt")
    loaded = mixed.load(tmp_path / "model.pt", silero.load)
    assert silero.score(loaded, result.model)["agreement"] == 1
