"""Other modules in place of a model's own."""

import pytest
import torch
from torch import Tensor, nn

from mono_quant.core.surgery import copy_with, put_in_place
from mono_quant.errors import ConfigurationError


class Everywhere(nn.Module):
    """One layer under several names, in containers of all kinds, in a plain list and in a closure's reach."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.again = self.fc
        self.deep = nn.ModuleDict({"inner": nn.ModuleList([nn.Sequential(nn.ReLU(), self.fc)])})
        self.other = nn.Linear(4, 4)
        self.plain = [self.fc, self.other]
        self.seen: list[Tensor] = []

    def places(self) -> list[nn.Module]:
        return [self.fc, self.again, self.deep["inner"][0][1], self.plain[0]]

    def note(self, _: nn.Module, __: object, output: Tensor) -> None:
        self.seen.append(output)

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.fc(x))


def test_a_copy_has_the_replacement_in_every_place():
    model, replacement = Everywhere(), nn.Identity()
    assert all(place is replacement for place in copy_with(model, {"fc": replacement}).places())


def test_a_module_can_be_replaced_by_any_of_its_names():
    model, replacement = Everywhere(), nn.Identity()
    assert all(place is replacement for place in copy_with(model, {"deep.inner.0.1": replacement}).places())


def test_copying_leaves_the_model_as_it_was():
    model = Everywhere()
    before, layer = {name: value.clone() for name, value in model.state_dict().items()}, model.fc
    copied = copy_with(model, {"fc": nn.Identity()})
    copied.other.weight.data.zero_()
    assert all(place is layer for place in model.places())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_that_is_one_layer_can_be_replaced():
    replacement = nn.Identity()
    assert copy_with(nn.Linear(2, 2), {"": replacement}) is replacement


def test_a_copy_without_tensors_is_empty_where_a_file_will_fill_it():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    model.register_buffer("lost", torch.ones(2), persistent=False)
    copied = copy_with(model, {}, without_tensors=True)
    assert {name for name, value in copied.state_dict().items() if not value.is_meta} == set()
    assert torch.equal(copied.lost, torch.ones(2))
    assert not model[0].weight.is_meta


def test_a_copy_without_tensors_keeps_ties():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    copied = copy_with(model, {}, without_tensors=True)
    assert copied[0].weight is copied[1].weight


def test_a_model_that_cannot_be_copied_is_named_with_the_way_out():
    class Stubborn(nn.Linear):
        def __deepcopy__(self, memo: object) -> None:
            message = "there is only one of me"
            raise RuntimeError(message)

    with pytest.raises(ConfigurationError, match=r"Sequential cannot be copied.*only one of me.*inplace=True"):
        copy_with(nn.Sequential(Stubborn(2, 2)), {})


def test_hooks_go_on_in_the_replacement_of_a_copy():
    model = Everywhere()
    model.fc.register_forward_pre_hook(lambda _, args, kwargs: ((args[0] + 1,), kwargs), with_kwargs=True)
    model.fc.register_forward_hook(lambda _, __, output: output * 10)
    copied = copy_with(model, {"fc": nn.Identity()})
    assert copied.fc(torch.tensor(2.0)) == 30


def test_a_hook_that_is_a_method_of_the_model_becomes_one_of_the_copy():
    model = Everywhere()
    model.fc.register_forward_hook(model.note)
    copied = copy_with(model, {"fc": nn.Identity()})
    copied.fc(torch.zeros(1))
    assert (len(model.seen), len(copied.seen)) == (0, 1)


def test_a_hook_added_to_the_copy_does_not_reach_the_model():
    model = Everywhere()
    copied = copy_with(model, {"fc": nn.Identity()})
    copied.fc.register_forward_hook(copied.note)
    model(torch.zeros(1, 4))
    assert model.seen == copied.seen == []


def test_in_place_every_registered_name_gets_the_replacement():
    model, replacement = Everywhere(), nn.Identity()
    assert put_in_place(model, {"fc": replacement}) is model
    assert all(place is replacement for place in model.places()[:3])


def test_in_place_the_hooks_and_their_handles_go_on():
    model = Everywhere()
    handle = model.fc.register_forward_hook(model.note)
    put_in_place(model, {"fc": nn.Identity()})
    model(torch.zeros(1, 4))
    handle.remove()
    model(torch.zeros(1, 4))
    assert len(model.seen) == 1


def test_in_place_a_model_that_is_one_layer_is_refused():
    with pytest.raises(ConfigurationError, match="itself a single layer"):
        put_in_place(nn.Linear(2, 2), {"": nn.Identity()})


class Holding(nn.Module):
    """It stands in place of a layer, around a module and a buffer of it."""

    def __init__(self, inside: nn.Module, table: Tensor) -> None:
        super().__init__()
        self.inside = inside
        self.register_buffer("table", table)


def test_what_the_replacement_shares_is_copied_once_with_the_model_and_replaced_in_it_too():
    model = Everywhere()
    model.register_buffer("table", torch.ones(2))
    model.deep.register_buffer("table", model.table)
    holding, replacement = Holding(model.deep["inner"], model.table), nn.Identity()
    copied = copy_with(model, {"deep": holding, "fc": replacement})
    assert copied.deep is holding
    assert holding.inside is model.deep["inner"]  # under another name, which nothing is known of
    holding = nn.ModuleDict({"inner": model.deep["inner"]})
    holding.register_buffer("table", model.table)
    copied = copy_with(model, {"deep": holding, "fc": replacement})
    assert copied.deep["inner"] is not model.deep["inner"]
    assert copied.deep["inner"][0][1] is copied.fc is replacement
    assert copied.deep.table is copied.table is not model.table
    assert type(model.deep["inner"][0][1]) is nn.Linear


def test_in_place_what_the_replacement_shares_stays_and_is_replaced_in_it_too():
    model, replacement = Everywhere(), nn.Identity()
    inner, holding = model.deep["inner"], Holding(model.deep["inner"], torch.ones(2))
    holding.fc = model.fc
    put_in_place(model, {"deep": holding, "fc": replacement})
    assert model.deep.inside is inner
    assert inner[0][1] is holding.fc is model.fc is replacement
