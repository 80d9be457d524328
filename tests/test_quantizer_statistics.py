"""What observers have seen serves a later run, in place of data."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mono_quant import Quantizer
from mono_quant.errors import CalibrationError, ConfigurationError
from mono_quant.io import save_statistics


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3)
    ).eval()


def data() -> list[Tensor]:
    return [torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]


def quantizer(observer: object = "minmax", **options: object) -> Quantizer:
    return Quantizer(observer=observer, show_progress=False, **options)


def scales(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in model.state_dict().items() if name.endswith(("_scale", "_zero_point"))}


@pytest.mark.parametrize("observer", ["minmax", "histogram", "mse", "percentile", "absmax"])
def test_ranges_from_a_file_are_those_of_the_data(tmp_path: Path, observer: str):
    first = quantizer(observer, algorithms=[]).quantize(net(), data())
    save_statistics(first.statistics, tmp_path / "seen.safetensors")
    second = quantizer(observer, algorithms=[]).quantize(net(), statistics=tmp_path / "seen.safetensors")
    expected = scales(first.model)
    assert expected
    assert all(torch.equal(tensor, expected[name]) for name, tensor in scales(second.model).items())


def test_another_search_finds_other_ranges_in_the_same_statistics():
    seen = quantizer({"name": "histogram", "search": "l2"}).quantize(net(), data()).statistics
    again = quantizer({"name": "histogram", "search": "entropy"}, algorithms=[]).quantize(net(), statistics=seen)
    direct = quantizer({"name": "histogram", "search": "entropy"}, algorithms=[]).quantize(net(), data())
    assert all(torch.equal(tensor, scales(direct.model)[name]) for name, tensor in scales(again.model).items())


def test_data_beside_statistics_serves_the_rewrites_and_the_checks():
    seen = quantizer().quantize(net(), data()).statistics
    result = quantizer(num_samples=1).quantize(net(), data(), statistics=seen)
    assert result.plan.removed
    assert result.info.sqnr_db is not None
    assert torch.equal(result.model[0].input_scale, quantizer().quantize(net(), data()).model[0].input_scale)


def test_a_layer_that_the_statistics_do_not_have_is_named():
    seen = quantizer().quantize(net(), data()).statistics
    del seen["4"]
    with pytest.raises(CalibrationError, match="nothing of '4'; they are of '0', '6'"):
        quantizer().quantize(net(), statistics=seen)


def test_statistics_of_another_observer_are_refused():
    seen = quantizer().quantize(net(), data()).statistics
    with pytest.raises(ConfigurationError, match="statistics of observer 'minmax' do not serve observer 'absmax'"):
        quantizer("absmax").quantize(net(), statistics=seen)


def test_layers_whose_inputs_were_changed_are_left_out():
    model = net()
    with torch.no_grad():
        model[4].weight[2] *= 100
        model[6].weight[:, 2] /= 100
    result = quantizer(algorithms=["smoothquant"]).quantize(model, data())
    changed = {layer for rewrite in result.plan.rewrites for layer in rewrite.layers}
    assert "6" in changed
    assert result.statistics.keys() == {"0", "4", "6"} - changed


def test_they_are_a_copy():
    seen = quantizer().quantize(net(), data()).statistics
    before = seen["0"].state["min"].clone()
    quantizer().quantize(net(), [x * 9 for x in data()], statistics=seen)
    assert torch.equal(seen["0"].state["min"], before)
