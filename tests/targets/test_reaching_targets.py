"""Targets, from a model and data to a quantized model that meets them."""

import copy
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import torch
from torch import Tensor, nn

from mono_quant import MaxDrop, MaxSize, MinSQNR, Quantizer
from mono_quant.core.sqnr import sum_sqnr_db
from mono_quant.errors import ConfigurationError, TargetError
from mono_quant.targets import Search
from mono_quant.targets.record import Found


def net() -> nn.Sequential:
    """Six layers, of which the second has inputs that int8 does badly."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 32), nn.ReLU(), nn.Linear(32, 10),
    ).eval()  # fmt: skip
    with torch.no_grad():
        model[1].weight[2] *= 300
        model[3].weight[:, 2] /= 300
    return model


def data(count: int = 5) -> list[Tensor]:
    return [torch.randn(6, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) for seed in range(count)]


def quantizer(**options: object) -> Quantizer:
    return Quantizer(show_progress=False, validators=("sqnr", "size"), **options)


def measured_db(model: nn.Module, quantized: nn.Module, batches: int = 4) -> float:
    with torch.no_grad():
        return sum_sqnr_db((model(x), quantized(x)) for x in data()[:batches])


def parameters_in_float(model: nn.Module) -> int:
    return sum(layer.weight.numel() for layer in model.modules() if type(layer) in {nn.Linear, nn.Conv2d})


def test_a_target_that_is_met_anyway_changes_nothing():
    result = quantizer(target=MinSQNR(10)).quantize(net(), data())
    assert result.found is not None
    assert result.found.is_met
    assert result.found.changed == {}
    assert len(result.found.evaluations) == 2  # of what was tried, and of what came out
    assert result.plan.layers.keys() == quantizer().plan(net()).layers.keys()


@pytest.mark.parametrize("then", [(), ("int8-weight-only",)])
@pytest.mark.parametrize("db", [25.0, 35.0])
def test_the_model_that_comes_out_has_the_sqnr_that_was_asked_for(db: float, then: tuple[str, ...]):
    model = net()
    assert measured_db(model, quantizer().quantize(model, data()).model) < db
    result = quantizer(target=MinSQNR(db, then=then)).quantize(model, data())
    assert measured_db(model, result.model) >= db
    assert 0 < len(result.found.evaluations) <= 25
    assert result.plan.layers


def test_the_layer_that_costs_most_is_the_one_that_is_kept():
    result = quantizer(target=MinSQNR(25, then=())).quantize(net(), data())
    assert result.found.changed == {"3": "float"}
    assert result.plan.kept["3"] == "the target needs it: output SQNR >= 25 dB"


def test_more_bits_for_weights_alone_leave_no_layer_in_float():
    result = quantizer(target=MinSQNR(25)).quantize(net(), data())
    assert result.found.changed == {"3": "int8-weight-only"}
    assert parameters_in_float(result.model) == 0


def test_a_metric_may_fall_by_no_more_than_was_asked_for():
    model = net()
    rows = torch.cat(data())
    with torch.no_grad():
        right = model(rows).argmax(1)

    def agreement(candidate: nn.Module) -> float:
        with torch.no_grad():
            return float((candidate(rows).argmax(1) == right).float().mean())

    result = quantizer(target=MaxDrop(agreement, 0.05)).quantize(model, data())
    assert agreement(result.model) >= 0.95
    assert "agreement" in result.found.target


def test_a_size_is_met_with_fewer_bits_for_some_layers():
    model = net()
    plain = quantizer().quantize(model, data())
    nbytes = int(plain.info.quantized_size_mb * 2**20 * 0.8)
    result = quantizer(target=MaxSize(nbytes)).quantize(model, data())
    assert result.info.quantized_size_mb * 2**20 <= nbytes
    assert set(result.found.changed.values()) == {"int4-weight-only"}
    assert 0 < len(result.found.changed) < len(result.plan.layers)


def test_a_target_out_of_reach_is_an_error_that_has_the_nearest_result():
    with pytest.raises(TargetError, match=r"was not met:\ntarget +output SQNR >= 400 dB") as caught:
        quantizer(target=MinSQNR(400)).quantize(net(), data())
    assert caught.value.best.plan.layers
    assert not caught.value.best.found.is_met


def test_a_size_out_of_reach_is_an_error():
    with pytest.raises(TargetError, match=r"size <= 0\.10 KB"):
        quantizer(target=MaxSize(100)).quantize(net(), data())


def test_the_file_says_what_was_chosen_and_gives_it_back(tmp_path: Path):
    model = net()
    result = quantizer(target=MinSQNR(25)).quantize(model, data())
    result.save(tmp_path / "model.safetensors")
    loaded = Quantizer().load(tmp_path / "model.safetensors", net)
    assert torch.equal(loaded(data()[0]), result.model(data()[0]))


def test_the_users_own_overrides_stay():
    result = quantizer(target=MinSQNR(25), overrides={"9": "float"}).quantize(net(), data())
    assert "9" in result.plan.kept


def test_the_users_model_is_left_as_it_was():
    model = net()
    before = copy.deepcopy(model.state_dict())
    quantizer(target=MinSQNR(35)).quantize(model, data())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert type(model[3]) is nn.Conv2d


def test_layers_that_share_a_weight_are_not_torn_apart():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)
            self.b.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.c(torch.relu(self.b(torch.relu(self.a(x)))))

    rows = [torch.randn(9, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    try:
        found = quantizer(target=MinSQNR(41)).quantize(Tied().eval(), rows).found
    except TargetError as error:
        found = error.best.found
    assert not {"a", "b"} & set(found.changed)


def test_a_model_that_is_one_layer_can_have_a_target():
    torch.manual_seed(0)
    rows = [torch.randn(9, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    result = quantizer(target=MinSQNR(44)).quantize(nn.Linear(8, 8).eval(), rows)
    assert result.found.changed == {"": "int8-weight-only"}


def test_sensitivity_puts_the_layer_first_that_costs_most():
    found = quantizer().sensitivity(net(), data())
    assert found.layers[0].name == "3"
    assert [layer.sqnr_db for layer in found.layers] == sorted(layer.sqnr_db for layer in found.layers)
    assert str(found).splitlines()[1].startswith("3 ")


def test_the_sensitivity_of_a_layer_is_the_sqnr_of_the_model_in_which_it_alone_is_quantized():
    model = net()
    found = {layer.name: layer.sqnr_db for layer in quantizer().sensitivity(model, data()).layers}
    for name, db in found.items():
        alone = quantizer(include=[name], fuse=False).quantize(model, data())
        assert db == pytest.approx(measured_db(model, alone.model), abs=0.05)


@pytest.mark.parametrize("batches", [0, -1, 1.5, True])
def test_sensitivity_needs_a_batch_to_compare_on(batches: object):
    with pytest.raises(ConfigurationError, match="batches must be a whole number of at least 1"):
        quantizer().sensitivity(net(), data(), batches=batches)


def test_sensitivity_ranks_by_a_metric_that_is_given():
    def fixed(model: nn.Module) -> float:
        return 0.25 if type(model[9]) is not nn.Linear else 0.5

    found = quantizer().sensitivity(net(), data(), metric=fixed)
    assert found.layers[0].name == "9"
    assert found.layers[0].metric == 0.25
    assert found.metric == 0.5
    assert "the float model has 0.5" in str(found)


def test_data_that_can_be_read_once_are_refused():
    def batches() -> Iterator[Tensor]:
        yield from data()

    for call in (
        lambda: quantizer(target=MinSQNR(20)).quantize(net(), batches()),
        lambda: quantizer().sensitivity(net(), batches()),
    ):
        with pytest.raises(ConfigurationError, match="read several times"):
            call()


def test_a_target_without_data_is_refused():
    with pytest.raises(ConfigurationError, match="measured on data"):
        quantizer(target=MinSQNR(20)).quantize(net())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: MaxSize("25 parsecs"), "25MB"),
        (lambda: MaxDrop(len, -0.1), "at least 0"),
        (lambda: MinSQNR(20, evaluations=0), "at least 1"),
        (lambda: MinSQNR(20, batches=1.5), "at least 1"),
    ],
)
def test_a_target_that_cannot_be_meant_is_refused(make: object, said: str):
    with pytest.raises(ConfigurationError, match=said):
        make()


def test_another_observer_can_be_all_that_a_layer_needs():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 8)).eval()
    rows = [torch.randn(512, 16) for _ in range(5)]
    rows[4][0, 0] = 60  # in the batch that nothing is measured on
    plain = quantizer().quantize(model, rows).info.sqnr_db
    searched = quantizer(observer="percentile").quantize(model, rows).info.sqnr_db
    assert searched > plain + 3
    result = quantizer(target=MinSQNR((plain + searched) / 2)).quantize(model, rows)
    assert result.found.changed == {"0": "observer percentile"}
    assert result.plan.layers.keys() == {"0", "2"}


def test_other_schemes_may_need_data_too():
    result = quantizer(
        target=MinSQNR(25, then=[{"scheme": "int8-static", "observer": "percentile"}, "int8-weight-only"])
    ).quantize(net(), data())
    assert result.found.is_met


@pytest.mark.parametrize("then", [[{"validator": "sqnr"}], [{}], [3]])
def test_what_cannot_be_turned_to_is_refused(then: object):
    with pytest.raises(ConfigurationError, match=r"scheme|component"):
        MinSQNR(20, then=then)


class Encoder(nn.Module):
    """Two layers behind one norm, with outliers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.a, self.b, self.out = nn.LayerNorm(16), nn.Linear(16, 24), nn.Linear(16, 24), nn.Linear(24, 6)
        with torch.no_grad():
            self.norm.weight[3] *= 90
            self.a.weight[:, 3] /= 90
            self.b.weight[:, 3] /= 90

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return self.out(torch.sigmoid(self.a(y)) * self.b(y))


def tokens(count: int = 5) -> list[Tensor]:
    return [torch.randn(4, 7, 16, generator=torch.Generator().manual_seed(seed)) for seed in range(count)]


@pytest.mark.parametrize("db", [40.0, 45.0, 50.0])
def test_what_comes_out_is_what_was_measured_also_when_layers_share_a_smoothed_norm(db: float):
    model = Encoder().eval()
    try:
        found = quantizer(target=MinSQNR(db), algorithms=["smoothquant"]).quantize(model, tokens()).found
    except TargetError as error:
        found = error.best.found
        assert not any(evaluation.is_met for evaluation in found.evaluations)
    before = next(one for one in found.evaluations if one.changed == found.changed)
    assert found.value == pytest.approx(before.value, abs=0.5)


def test_ways_are_measured_with_the_kernels_that_they_run_by():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64)).eval()
    # This kernel rounds to bfloat16; the reference does not, and would promise more than comes out.
    asking = quantizer(kernel="bfloat16-linear", target=MinSQNR(42, then=("int8-weight-only",)))
    found = asking.quantize(model, [torch.randn(32, 64) for _ in range(4)]).found
    *tried, last = found.evaluations
    assert set(last.changed.values()) == {"int8-weight-only"}
    values = [one.value for one in tried if one.changed == last.changed]
    assert values == [pytest.approx(last.value, abs=0.01)] * len(values) != []


def test_a_choice_that_comes_out_worse_than_when_it_was_tried_gives_way_to_the_next(monkeypatch: pytest.MonkeyPatch):
    confirm, failed = Search.confirm, []

    def first_fails(search: Search, changed: dict[str, str], model: nn.Module) -> Found:
        found = confirm(search, changed, model)
        if failed:
            return found
        failed.append(changed)
        *before, last = found.evaluations
        return attrs.evolve(found, is_met=False, evaluations=(*before, attrs.evolve(last, is_met=False)))

    monkeypatch.setattr(Search, "confirm", first_fails)
    result = quantizer(target=MinSQNR(35)).quantize(net(), data())
    assert result.found is not None
    assert result.found.is_met
    assert result.found.changed not in [*failed, {}]
    assert len(result.found.evaluations) <= 25
    assert measured_db(net(), result.model) >= 35


def test_shuffled_data_do_not_make_another_model_of_it():
    loader = torch.utils.data.DataLoader(torch.cat(data()), batch_size=6, shuffle=True)
    for seed in range(4):
        torch.manual_seed(seed)
        assert quantizer(target=MinSQNR(25)).quantize(net(), loader).found.is_met


def test_options_of_an_override_stay_when_an_observer_is_added():
    full = {"scheme": {"name": "int8-static", "saturation": "full-range"}}
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 8)).eval()
    rows = [torch.randn(512, 16) for _ in range(5)]
    rows[4][0, 0] = 60
    plain = quantizer(overrides={"re:0": full}).quantize(model, rows)
    result = quantizer(overrides={"re:0": full}, target=MinSQNR(plain.info.sqnr_db + 2)).quantize(model, rows)
    assert result.found.changed == {"0": "observer percentile"}
    assert torch.equal(result.model[0].weight, plain.model[0].weight)
    assert not torch.equal(result.model[0].input_scale, plain.model[0].input_scale)


def test_an_override_of_the_users_for_the_same_layer_gives_way():
    result = quantizer(target=MinSQNR(25, then=()), overrides={"3": {"observer": "minmax"}}).quantize(net(), data())
    assert "3" in result.plan.kept


def test_in_place_the_model_is_changed_only_when_the_target_is_met():
    model = net()
    with pytest.raises(TargetError):
        quantizer(target=MinSQNR(400)).quantize(model, data(), inplace=True)
    assert type(model[0]) is nn.Conv2d
    result = quantizer(target=MinSQNR(25)).quantize(model, data(), inplace=True)
    assert result.model is model
    assert result.found.is_met
    assert measured_db(net(), model) >= 25


def test_statistics_serve_a_target_too():
    seen = quantizer().quantize(net(), [100 * x for x in data()]).statistics
    result = quantizer(target=MinSQNR(-50)).quantize(net(), data(), statistics=seen)
    plain = quantizer().quantize(net(), data())
    assert float(result.model[0].input_scale) > 50 * float(plain.model[0].input_scale)


def test_tied_weights_count_once():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.table, self.head = nn.Embedding(64, 16), nn.Linear(16, 64, bias=False)
            self.head.weight = self.table.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.table(x))

    rows = [torch.randint(0, 64, (3, 5)) for _ in range(2)]
    plain = Quantizer("int8-weight-only", validators=("size",)).quantize(Tied().eval(), rows)
    nbytes = int(plain.info.quantized_size_mb * 2**20 * 1.05)
    result = Quantizer("int8-weight-only", validators=("size",), target=MaxSize(nbytes)).quantize(Tied().eval(), rows)
    assert result.found.changed == {}


@pytest.mark.parametrize(("scheme", "kernel"), [("int8-dynamic", "reference"), ("int8-weight-only", "dequantize")])
def test_a_layer_inside_of_another_goes_with_that(scheme: str, kernel: str):
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    quantizing = Quantizer(scheme, show_progress=False, validators=("sqnr",))
    names = [layer.name for layer in quantizing.sensitivity(model, tokens()).layers]
    assert "self_attn" in names
    assert "self_attn.out_proj" not in names
    reaching = Quantizer(scheme, validators=("sqnr",), kernel=kernel, target=MinSQNR(5))  # others round otherwise
    found = reaching.quantize(model, tokens()).found
    assert found.evaluations[0].value == pytest.approx(found.value, abs=0.2)


class Labels(nn.Module):
    """Gives no float numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).argmax(1)


def test_a_model_that_returns_labels_is_ranked_and_reached_by_its_metric():
    model = Labels().eval()
    rows = torch.cat(data())
    right = model(rows)

    def agreement(candidate: nn.Module) -> float:
        return float((candidate(rows) == right).float().mean())

    assert quantizer().sensitivity(model, data(), agreement).layers[0].sqnr_db is None
    assert agreement(quantizer(target=MaxDrop(agreement, 0.03)).quantize(model, data()).model) >= 0.97


def test_a_metric_may_leave_train_mode_and_is_asked_no_more_often_than_allowed():
    asked = []

    def metric(model: nn.Module) -> float:
        asked.append(model.training)
        model.train()
        return 1.0 if type(model[3]) is nn.Conv2d else 0.0

    result = quantizer(target=MaxDrop(metric, 0.0, then=(), evaluations=6)).quantize(net(), data())
    assert not result.model.training
    assert not any(asked)
    assert len(asked) <= 7  # and the float model


def test_two_ways_of_one_scheme_are_told_apart():
    then = [{"name": "int4-weight-only", "group_size": size, "misfit": "adjust"} for size in (128, 64)]
    model = net()
    nbytes = int(quantizer().quantize(model, data()).info.quantized_size_mb * 2**20 * 0.9)
    found = quantizer(target=MaxSize(nbytes, then=then)).quantize(model, data()).found
    assert set(found.changed.values()) <= {"int4-weight-only", "int4-weight-only #2"}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Quantizer(target=30.0),
        lambda: MaxDrop(0.01, len),
        lambda: MaxDrop(len, float("nan")),
        lambda: MinSQNR("much"),
        lambda: MinSQNR(float("nan")),
        lambda: MaxSize(-5),
        lambda: MaxSize(float("inf")),
    ],
)
def test_other_things_than_targets_are_refused(make: object):
    with pytest.raises(ConfigurationError):
        make()


def test_a_metric_that_is_no_number_of_the_float_model_is_refused():
    with pytest.raises(ConfigurationError, match="not a number"):
        quantizer(target=MaxDrop(lambda model: float("nan"), 0.1)).quantize(net(), data())  # noqa: ARG005


def test_a_smaller_way_is_not_given_up_for_a_larger_one():
    then = [{"name": f"int{bits}-weight-only", "group_size": 128, "misfit": "adjust"} for bits in (2, 4)]
    model = net()
    fewest = quantizer(target=MaxSize("1GB")).quantize(model, data()).info.quantized_size_mb * 2**20
    for part in (0.7, 0.6, 0.55):
        result = quantizer(target=MaxSize(int(fewest * part), then=then)).quantize(model, data())
        assert result.info.quantized_size_mb * 2**20 <= fewest * part


def test_an_override_by_the_second_name_of_a_layer_is_in_force():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.c = nn.Linear(16, 16), nn.Linear(16, 8)
            self.b = self.a

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.b(x).relu())

    rows = [torch.randn(32, 16, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    target = MinSQNR(48, then=[{"observer": "percentile"}])
    try:
        result = quantizer(overrides={"b": {"scheme": "int8-weight-only"}}, target=target).quantize(
            Twice().eval(), rows
        )
    except TargetError as error:
        result = error.best
    assert "a" in result.plan.kept or result.plan.layers["a"].scheme == "int8-weight-only"


def test_data_that_give_nothing_when_they_are_read_again_are_refused():
    class Once:
        def __init__(self) -> None:
            self._left = iter(data())

        def __iter__(self) -> Iterator[Tensor]:
            return self._left

    with pytest.raises(ConfigurationError, match="no batch when they were read again"):
        quantizer(target=MinSQNR(20)).quantize(net(), Once())
