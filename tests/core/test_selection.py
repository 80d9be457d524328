import re
from collections.abc import Callable

import pytest
from torch import nn

from mono_quant.core.selection import Pattern, as_text, first_match, matches, refuse_unmatched
from mono_quant.errors import ConfigurationError


class Projection(nn.Linear):
    pass


class Linear(nn.Module):
    """Has the name of a class of torch, and nothing else of it."""


class Outer:
    class Inner(Projection):
        pass


MODEL = nn.Sequential()
MODEL.add_module("encoder", nn.Sequential(nn.Linear(4, 4), nn.ReLU(), Projection(4, 4)))
MODEL.add_module("head", nn.Conv1d(4, 4, 1))


def matched(pattern: Pattern, model: nn.Module = MODEL) -> set[str]:
    return {name for name, module in model.named_modules() if matches(as_text(pattern), name, module)}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("head", {"head"}),
        ("encoder.*", {"encoder.0", "encoder.1", "encoder.2"}),
        ("*", {"", "encoder", "encoder.0", "encoder.1", "encoder.2", "head"}),
        ("encoder.[02]", {"encoder.0", "encoder.2"}),
        ("*.?", {"encoder.0", "encoder.1", "encoder.2"}),
        ("enc", set()),
        ("HEAD", set()),
        (r"re:encoder\.[01]", {"encoder.0", "encoder.1"}),
        ("re:.*2", {"encoder.2"}),
        ("re:encoder", {"encoder"}),
        ("re:ncoder.*", set()),
        (nn.Linear, {"encoder.0", "encoder.2"}),
        (Projection, {"encoder.2"}),
        ("type:Linear", {"encoder.0", "encoder.2"}),
        ("type:torch.nn.modules.linear.Linear", {"encoder.0", "encoder.2"}),
        ("type:torch.nn.Linear", set()),
        ("type:linear.Linear", set()),
        ("type:Conv1d", {"head"}),
        ("type:linear", set()),
        ("Linear", set()),
    ],
)
def test_a_pattern_names_these_modules(pattern: Pattern, names: set[str]):
    assert matched(pattern) == names


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["a", "b.*", "type:Linear"], "b.*"),
        (["type:Linear", "b.*"], "type:Linear"),
        (["other.name"], "other.name"),
        (["a", "type:Conv1d"], None),
        ([], None),
    ],
)
def test_of_several_patterns_the_first_that_names_a_layer_by_any_of_its_names_wins(
    patterns: list[str], expected: str | None
):
    assert first_match(patterns, iter(["b.fc", "other.name"]), nn.Linear(1, 1)) == expected


def test_a_class_is_kept_by_its_full_name():
    assert as_text(nn.Conv2d) == "type:torch.nn.modules.conv.Conv2d"
    assert as_text(Outer.Inner) == f"type:{__name__}.Outer.Inner"


TWO_OF_A_NAME = nn.ModuleDict({"mine": Linear(), "theirs": nn.Linear(1, 1), "derived": Outer.Inner(1, 1)})


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        (Linear, {"mine"}),
        (nn.Linear, {"theirs", "derived"}),
        (Projection, {"derived"}),
        (Outer.Inner, {"derived"}),
        ("type:Linear", {"mine", "theirs", "derived"}),
        ("type:Inner", {"derived"}),
        (f"type:{__name__}.Linear", {"mine"}),
    ],
)
def test_a_class_is_not_taken_for_another_one_of_the_same_name(pattern: Pattern, names: set[str]):
    assert matched(pattern, TWO_OF_A_NAME) == names


def test_a_class_made_in_a_function_is_told_from_one_made_in_another():
    def one() -> type[nn.Module]:
        class Local(nn.Module):
            pass

        return Local

    def other() -> type[nn.Module]:
        class Local(nn.Module):
            pass

        return Local

    model = nn.Sequential(one()(), other()())
    assert matched(one(), model) == {"0"}
    assert matched("type:Local", model) == {"0", "1"}


@pytest.mark.parametrize(
    "parametrized", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm]
)
def test_a_layer_with_a_computed_weight_is_still_of_its_class(parametrized: Callable[[nn.Module], nn.Module]):
    layer = parametrized(nn.Linear(3, 3))
    assert type(layer) is not nn.Linear
    assert matched(nn.Linear, layer) == matched("type:Linear", layer) == {""}


@pytest.mark.parametrize("pattern", ["encoder.*", "re:a|b", "type:Linear", ""])
def test_text_is_kept_as_it_is(pattern: str):
    assert as_text(pattern) == pattern


@pytest.mark.parametrize("pattern", [3, None, int, nn.Linear(1, 1), ["a"]])
def test_what_is_no_pattern_is_refused(pattern: object):
    with pytest.raises(ConfigurationError, match="text or a module class"):
        as_text(pattern)  # type: ignore[arg-type]


def test_a_broken_regular_expression_is_refused_and_shown():
    with pytest.raises(ConfigurationError, match=re.escape("'re:(' is not a regular expression")):
        as_text("re:(")


@pytest.mark.parametrize("pattern", ["encoder.*", "head", r"re:.*\.0", "type:Projection", "*"])
def test_a_pattern_that_names_a_layer_is_accepted(pattern: str):
    refuse_unmatched(MODEL, [pattern])


def test_no_patterns_are_accepted():
    refuse_unmatched(MODEL, [])


@pytest.mark.parametrize("pattern", ["decoder.*", "re:head.+", "type:LSTM", ""])
def test_a_pattern_that_names_nothing_is_refused_with_what_there_is(pattern: str):
    with pytest.raises(ConfigurationError, match=re.escape(f"{pattern!r} matches no layer")) as caught:
        refuse_unmatched(MODEL, ["head", pattern])
    types_or_names = (
        "Linear, ReLU, Projection, Conv1d" if pattern.startswith("type:") else "encoder.0, encoder.1, encoder.2, head"
    )
    assert str(caught.value).endswith(types_or_names)


@pytest.mark.parametrize("pattern", ["encoder", "type:Sequential"])
def test_a_pattern_that_names_only_a_container_is_refused_because_it_would_do_nothing(pattern: str):
    with pytest.raises(ConfigurationError, match="matches no layer"):
        refuse_unmatched(MODEL, [pattern])


def test_every_name_of_a_shared_layer_is_known():
    layer = nn.Linear(2, 2)
    refuse_unmatched(nn.ModuleDict({"first": layer, "second": layer}), ["first", "second"])


def test_a_model_that_is_one_layer_is_named_by_its_type():
    refuse_unmatched(nn.Linear(2, 2), ["type:Linear", "*"])


def test_a_model_that_is_one_layer_is_named_in_the_error():
    with pytest.raises(ConfigurationError, match="the model itself, a Linear"):
        refuse_unmatched(nn.Linear(2, 2), ["fc"])
