"""What observers have seen goes through a file, and gives the range for other codes."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mono_quant import Quantizer
from mono_quant.core.granularity import PerChannel, PerTensor
from mono_quant.core.observers import (
    AbsMaxObserver,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageObserver,
    MSEObserver,
    PercentileObserver,
)
from mono_quant.errors import ArtifactError, ConfigurationError
from mono_quant.io import LayerStatistics, load_statistics, save_model, save_statistics
from mono_quant.plugin_api import Observer

KINDS = {
    "minmax": MinMaxObserver,
    "absmax": AbsMaxObserver,
    "moving-average": MovingAverageObserver,
    "percentile": PercentileObserver,
    "mse": MSEObserver,
    "histogram": HistogramObserver,
}


def batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(50, 4, generator=generator) ** 3 for _ in range(3)]


def seen(observer: Observer) -> Observer:
    for x in batches():
        observer.forward(x)
    return observer


def same(one: Observer, other: Observer) -> bool:
    pairs = zip(one.calculate_qparams(), other.calculate_qparams(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("granularity", [PerTensor(), PerChannel(1)])
@pytest.mark.parametrize("name", KINDS)
def test_a_file_gives_the_range_of_another_scheme_without_data(
    name: str, granularity: PerTensor | PerChannel, tmp_path: Path
):
    kind = KINDS[name]
    path = tmp_path / "statistics.safetensors"
    save_statistics({"a.b": LayerStatistics.of(seen(kind(dtype="int8", granularity=granularity)), name)}, path)
    (layer,) = load_statistics(path).values()
    for dtype in ("int8", "uint8", "int4"):
        for symmetric in (False, True):
            options = {"dtype": dtype, "symmetric": symmetric, "granularity": granularity}
            observer = kind(**options)
            layer.load_into(observer, name)
            assert same(observer, seen(kind(**options)))


def test_options_that_change_only_the_search_may_differ(tmp_path: Path):
    wanted = {"name": "histogram", "search": "l2"}
    save_statistics({"x": LayerStatistics.of(seen(HistogramObserver()), wanted)}, tmp_path / "s.safetensors")
    layer = load_statistics(tmp_path / "s.safetensors")["x"]
    assert layer.observer.as_wanted() == wanted
    observer = HistogramObserver(search="entropy", symmetric=True)
    layer.load_into(observer, {"name": "histogram", "search": "entropy"})
    assert same(observer, seen(HistogramObserver(search="entropy", symmetric=True)))


def test_layers_come_back_under_their_names_with_all_that_was_said(tmp_path: Path):
    path = tmp_path / "statistics.safetensors"
    percentile = {"name": "percentile", "percentile": 99}
    written = {
        "": LayerStatistics.of(seen(MinMaxObserver()), "minmax"),
        "block.0/odd": LayerStatistics.of(
            seen(PercentileObserver(percentile=99, granularity=PerChannel(1))), percentile
        ),
    }
    save_statistics(written, path)
    found = load_statistics(path)
    assert list(found) == list(written)
    for name, layer in found.items():
        assert (layer.observer, layer.granularity) == (written[name].observer, written[name].granularity)
        assert {n: t.tolist() for n, t in layer.state.items()} == {
            n: t.tolist() for n, t in written[name].state.items()
        }


def test_two_machines_share_the_work(tmp_path: Path):
    whole, parts = seen(HistogramObserver()), (HistogramObserver(), HistogramObserver())
    for number, x in enumerate(batches()):
        parts[number % 2].forward(x)
    for number, part in enumerate(parts):
        save_statistics({"x": LayerStatistics.of(part, "histogram")}, tmp_path / f"{number}.safetensors")
    one, other = HistogramObserver(), HistogramObserver()
    for number, observer in enumerate((one, other)):
        load_statistics(tmp_path / f"{number}.safetensors")["x"].load_into(observer, "histogram")
    one.merge(other)
    assert same(one, whole)


@pytest.mark.parametrize(
    ("observer", "wanted", "message"),
    [
        (MSEObserver(), "mse", "of observer 'histogram' do not serve observer 'mse'"),
        (HistogramObserver(granularity=PerChannel(1)), "histogram", "per-tensor, and a range is needed per-channel"),
        (
            HistogramObserver(bins=64),
            {"name": "histogram", "bins": 64},
            r"of observer 'histogram' do not fit \{'name': 'histogram', 'bins': 64\}: ValueError: counts in 2048 bins",
        ),
        (MinMaxObserver(), "histogram", "do not fit 'histogram'"),  # another distribution's, of the same name
    ],
)
def test_what_does_not_fit_is_refused(observer: Observer, wanted: object, message: str):
    layer = LayerStatistics.of(seen(HistogramObserver()), "histogram")
    if isinstance(observer, MinMaxObserver):
        layer = LayerStatistics(observer=layer.observer, granularity=layer.granularity, state={"counts": torch.ones(3)})
    with pytest.raises(ConfigurationError, match=message):
        layer.load_into(observer, wanted)
    assert observer.range() is None


@pytest.mark.parametrize("bad", [torch.tensor([float("nan")]), torch.tensor([-9.0]), torch.ones(2), torch.ones(1, 1)])
def test_numbers_that_no_data_gives_are_refused(bad: torch.Tensor):
    state = {"min": torch.tensor([-1.0]), "max": bad}
    layer = LayerStatistics(observer="minmax", granularity=PerTensor(), state=state)
    with pytest.raises(ConfigurationError, match="do not fit 'minmax': ValueError: they give"):
        layer.load_into(MinMaxObserver(), "minmax")


def test_who_saw_nothing_has_nothing_to_save():
    with pytest.raises(ConfigurationError, match="'minmax' has no statistics to save"):
        LayerStatistics.of(MinMaxObserver(), "minmax")


def test_the_same_statistics_give_the_same_bytes(tmp_path: Path):
    paths = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    for path in paths:
        save_statistics({"x": LayerStatistics.of(seen(HistogramObserver()), "histogram")}, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_two_layers_for_one_tensor_are_refused_and_nothing_is_written(tmp_path: Path):
    one = LayerStatistics(observer="a", granularity=PerTensor(), state={"b/c": torch.ones(1)})
    other = LayerStatistics(observer="a", granularity=PerTensor(), state={"c": torch.ones(1)})
    with pytest.raises(ArtifactError, match="two layers would both write"):
        save_statistics({"x": one, "x/b": other}, tmp_path / "s.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_another_file_is_no_statistics(tmp_path: Path):
    result = Quantizer("int8-dynamic", on_failure="ignore").quantize(torch.nn.Sequential(torch.nn.Linear(4, 4)))
    save_model(result.model, tmp_path / "model.safetensors")
    save_file({"x": torch.ones(1)}, tmp_path / "plain.safetensors")
    (tmp_path / "text.safetensors").write_text("no safetensors")
    for name, message in {"model": "does not hold", "plain": "does not hold", "text": "cannot be read"}.items():
        with pytest.raises(ArtifactError, match=message):
            load_statistics(tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize(
    "damage",
    [
        {"more": 1},
        {"state": ["min", "max", "median"]},
        {"state": ["min"]},
        {"state": {"min": 1}},
        {"granularity": "per-planet"},
        {"observer": "minmax"},
        {"observer": {"name": 7, "options": {}}},
        {"observer": {"name": "minmax", "options": []}},
        [],
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_a_damaged_file_is_refused(damage: dict[str, object] | list[object], tmp_path: Path, *, whole: bool):
    path = tmp_path / "s.safetensors"
    save_statistics({"x": LayerStatistics.of(seen(MinMaxObserver()), "minmax")}, path)
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    manifest = json.loads(header["__metadata__"]["mono_quant"])
    layer = manifest["layers"]["x"] | damage if isinstance(damage, dict) else damage
    manifest["layers"] = layer if whole else {"x": layer}
    save_file(load_file(path), path, metadata={"format": "pt", "mono_quant": json.dumps(manifest)})
    with pytest.raises(ArtifactError, match="is damaged"):
        load_statistics(path)
