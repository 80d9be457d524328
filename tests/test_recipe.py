"""Recipes: every configuration comes back from its text, and no mistake in one passes silently."""

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import mlp
from torch import nn

from mono_quant import QuantizationConfig, Quantizer
from mono_quant.errors import ArtifactError, ConfigurationError
from mono_quant.recipe import render

Strategy = st.SearchStrategy[Any]

untimed = settings(deadline=None)


def values(leaves: Strategy) -> Strategy:
    """Text, numbers and what else a kind of recipe has, in lists and tables."""
    return st.recursive(
        st.text() | st.booleans() | st.integers() | leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )


@st.composite
def configs(draw: Callable[[Strategy], Any], leaves: Strategy) -> QuantizationConfig:
    options = st.dictionaries(st.text().filter("name".__ne__), values(leaves), max_size=3)
    component = st.text() | st.builds(lambda name, more: {"name": name, **more}, st.text(), options)
    pattern = st.text().filter(lambda text: not text.startswith("re:")) | st.just(r"re:.*\.fc[12]")
    change = st.none() | st.fixed_dictionaries({}, optional={"scheme": component, "observer": component})
    return QuantizationConfig(
        scheme=draw(component),
        observer=draw(component),
        source=draw(st.none() | component),
        validators=draw(st.lists(component, max_size=3)),
        algorithms=draw(st.lists(component, max_size=3)),
        kernel=draw(st.text()),
        include=draw(st.lists(pattern, max_size=20)),
        exclude=draw(st.lists(pattern, max_size=3)),
        overrides=draw(st.dictionaries(pattern, change, max_size=5)),
        min_parameters=draw(st.integers(min_value=0)),
        num_samples=draw(st.integers(min_value=1)),
        on_failure=draw(st.sampled_from(["error", "warn", "ignore"])),
    )


# The text of a record tells apart what equality does not: 1, 1.0 and True; 0.0 and -0.0; the order of overrides.


@untimed
@given(configs(st.floats(allow_nan=False)))
def test_every_configuration_comes_back_from_toml(config: QuantizationConfig):
    assert repr(QuantizationConfig.from_text(config.to_text("toml"), "toml")) == repr(config)


@untimed
@given(configs(st.floats(allow_nan=False, allow_infinity=False) | st.none()))
def test_every_configuration_comes_back_from_json(config: QuantizationConfig):
    assert repr(QuantizationConfig.from_text(config.to_text("json"), "json")) == repr(config)


@untimed
@given(configs(st.floats(allow_nan=False, allow_infinity=False)))
def test_the_kind_of_a_text_need_not_be_said(config: QuantizationConfig):
    assert {repr(QuantizationConfig.from_text(config.to_text(kind))) for kind in ("toml", "json")} == {repr(config)}


@untimed
@given(st.text(), st.sampled_from(["toml", "json", None]))
def test_a_text_that_is_no_recipe_is_a_configuration_error_and_nothing_else(text: str, kind: Any):  # noqa: ANN401
    try:
        QuantizationConfig.from_text(text, kind)
    except ConfigurationError as error:
        assert str(error).startswith("the recipe")  # noqa: PT017 - there may be none


@untimed
@given(st.dictionaries(st.text(), values(st.floats(allow_nan=False)), max_size=6))
def test_written_toml_says_what_it_was_made_of(plain: dict[str, Any]):
    read = tomllib.loads(render(plain, "toml"))
    assert {key: repr(read[key]) for key in read} == {key: repr(plain[key]) for key in plain}


@pytest.mark.parametrize("name", ["recipe.toml", "recipe.json", "RECIPE.TOML"])
def test_a_file_comes_back(tmp_path: Path, name: str):
    config = QuantizationConfig(
        scheme={"name": "int8-static", "saturation": "full-range"},
        include=[nn.Linear, "ü.*", r"re:\d+\.weird \"quotes\"", "tab\t, line\n, delete\x7f"],
        overrides={"b": {"scheme": "int8-dynamic"}, "a": None, "c": {}},
    )
    config.to_file(tmp_path / name)
    assert repr(QuantizationConfig.from_file(tmp_path / name)) == repr(config)
    assert b"\r" not in (tmp_path / name).read_bytes()


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "{}", " {\n}"])
def test_what_a_recipe_does_not_say_is_as_by_default(text: str):
    assert QuantizationConfig.from_text(text) == QuantizationConfig()


def test_a_short_recipe_changes_what_it_says():
    text = 'exclude = "head"\nscheme = "int8-dynamic"\n[observer]\nname = "spread"\nk = 3.0\n'
    expected = QuantizationConfig(exclude="head", scheme="int8-dynamic", observer={"name": "spread", "k": 3.0})
    assert QuantizationConfig.from_text(text) == expected


@pytest.mark.parametrize("kind", ["toml", "json"])
def test_a_written_recipe_is_complete_so_that_other_defaults_do_not_change_it(kind: str):
    config = QuantizationConfig(source="dataloader", format="safetensors")
    written = config.to_text(kind)
    assert all(f"{field.name}" in written for field in attrs.fields(QuantizationConfig))


def test_an_override_says_float_where_python_says_none():
    by_word = QuantizationConfig.from_text('overrides = { "head" = "float" }')
    by_null = QuantizationConfig.from_text('{"overrides": {"head": null}}')
    in_python = QuantizationConfig(overrides={"head": "float"})
    assert by_word == by_null == in_python == QuantizationConfig(overrides={"head": None})


@pytest.mark.parametrize("kind", ["toml", "json"])
def test_the_first_matching_override_is_the_first_in_the_text_whatever_their_values_are(kind: str):
    changes = {"0": {"scheme": "int8-dynamic"}, "*": None}
    for overrides in (changes, dict(reversed(changes.items()))):
        written = QuantizationConfig(overrides=overrides).to_text(kind)
        config = QuantizationConfig.from_text(written)
        assert list(config.overrides) == list(overrides)
    turned = Quantizer.from_config(config).plan(mlp())
    assert set(turned.kept) == {"0", "1", "2"}


WRONG = [
    ("num_sample = 3", ["unknown key 'num_sample'", "did you mean 'num_samples'?", "min_parameters"]),
    ("[schemes]\nname = 'x'", ["unknown key 'schemes'", "did you mean 'scheme'?"]),
    ("qqqq = 1", ["unknown key 'qqqq'", "the keys are scheme, observer"]),
    ("on_failure = 'eror'", ["on_failure", "'error', 'warn', 'ignore'", "did you mean 'error'?"]),
    ("on_failure = ['error']", ["on_failure", "'error', 'warn', 'ignore'"]),
    ("num_samples = 0", ["num_samples", "at least 1"]),
    ("num_samples = '7'", ["num_samples", "whole number", "'7'"]),
    ("num_samples = 7.0", ["num_samples", "whole number", "7.0"]),
    ("num_samples = true", ["num_samples", "whole number", "True"]),
    ("min_parameters = -1", ["min_parameters", "at least 0"]),
    ("kernel = 4", ["kernel", "text"]),
    ("scheme = 4", ["scheme", "its name", "4"]),
    ("scheme = { saturation = 'x' }", ["scheme", "'name'"]),
    ("source = ['dataloader']", ["source", "its name"]),
    ("validators = 3", ["validators", "list of components", "3"]),
    ("validators = ['sqnr', 3]", ["validators", "its name", "3"]),
    ("algorithms = [['bn-fold']]", ["algorithms", "its name"]),
    ("include = 5", ["include", "list of patterns", "5"]),
    ("include = { a = 1 }", ["include", "list of patterns"]),
    ("include = ['a', 5]", ["include", "pattern", "5"]),
    ("exclude = ['re:(']", ["exclude", "'re:('", "regular expression"]),
    ("overrides = ['a']", ["overrides", "mapping of patterns"]),
    ("overrides = { a = 'flaot' }", ["overrides", "'a'", "'float'", "'scheme'", "did you mean 'float'?"]),
    ("overrides = { a = 3 }", ["overrides", "'a'", "'float'", "3"]),
    ("overrides = { a = { shceme = 'x' } }", ["overrides", "'a'", "'observer'", "did you mean 'scheme'?"]),
    ("overrides = { a = { scheme = 3 } }", ["overrides", "'a'", "its name", "3"]),
    ("overrides = { 're:(' = 'float' }", ["overrides", "'re:('", "regular expression"]),
    ("scheme = { name = 'a', at = 2020-01-01 }", ["scheme.at", "date"]),
    ("scheme = 'a'\nscheme = 'b'", ["not TOML"]),
    ("scheme", ["not TOML"]),
    ('{"scheme": "a", "scheme": "b"}', ["not JSON", "'scheme' occurs twice"]),
    ('{"overrides": {"a": null, "a": {}}}', ["not JSON", "'a' occurs twice"]),
    ('{"scheme": ', ["not JSON"]),
    ('{"scheme": {"name": "x", "k": NaN}}', ["not JSON", "NaN is not a finite number"]),
    ('{"scheme": {"name": "x", "k": [-Infinity]}}', ["not JSON", "-Infinity is not a finite number"]),
    ('{"scheme": {"name": "x", "k": 1e999}}', ["not JSON", "1e999 is not a finite number"]),
    ('{"scheme": "\\ud800"}', ["scheme", "surrogate"]),
]


@pytest.mark.parametrize(("text", "words"), WRONG, ids=[text for text, _ in WRONG])
def test_a_mistake_is_refused_with_the_file_the_key_and_what_is_allowed(tmp_path: Path, text: str, words: list[str]):
    path = tmp_path / ("recipe.json" if text.startswith("{") else "recipe.toml")
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        QuantizationConfig.from_file(path)
    assert [word for word in [str(path), *words] if word not in str(caught.value)] == []


def test_json_that_is_no_object_is_refused():
    with pytest.raises(ConfigurationError, match="object of keys and values, not list"):
        QuantizationConfig.from_text("[1]", "json")


def test_deep_nesting_is_refused_and_overflows_no_stack():
    for text, kind in (("a = " + "[" * 100_000, "toml"), ('{"a": ' + "[" * 100_000, "json")):
        with pytest.raises(ConfigurationError, match=f"not {kind.upper()}"):
            QuantizationConfig.from_text(text)


def test_a_byte_order_mark_as_some_editors_write_it_is_skipped(tmp_path: Path):
    (tmp_path / "recipe.toml").write_bytes(b"\xef\xbb\xbfnum_samples = 3\r\n")
    assert QuantizationConfig.from_file(tmp_path / "recipe.toml").num_samples == 3


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path):
    (tmp_path / "recipe.toml").write_bytes(b"kernel = '\xff'")
    with pytest.raises(ConfigurationError, match=r"recipe\.toml is not UTF-8"):
        QuantizationConfig.from_file(tmp_path / "recipe.toml")


@pytest.mark.parametrize("name", ["missing.toml", "folder.json"])
def test_a_file_that_cannot_be_read_or_written_is_an_artifact_error(tmp_path: Path, name: str):
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ArtifactError, match=name):
        QuantizationConfig.from_file(tmp_path / name)
    with pytest.raises(ArtifactError, match="cannot be written"):
        QuantizationConfig().to_file(tmp_path / "folder.json" if name == "folder.json" else tmp_path / "no" / name)


@pytest.mark.parametrize("name", ["recipe.yaml", "recipe", "toml"])
def test_another_suffix_is_refused_with_those_that_exist(tmp_path: Path, name: str):
    with pytest.raises(ConfigurationError, match=rf"{name}: the suffix.* 'toml', 'json'"):
        QuantizationConfig.from_file(tmp_path / name)
    with pytest.raises(ConfigurationError, match=rf"{name}: the suffix.* 'toml', 'json'"):
        QuantizationConfig().to_file(tmp_path / name)


@pytest.mark.parametrize(
    ("suffix", "option", "words"),
    [
        ("toml", None, r"scheme\.option: TOML has no null"),
        ("toml", [1, {"a": None}], r"scheme\.option\[1\]\.a: TOML has no null"),
        ("json", float("inf"), r"scheme\.option: JSON has no number for inf"),
        ("json", [float("nan")], r"scheme\.option\[0\]: JSON has no number for nan"),
        ("toml", mlp, r"scheme\.option: <function .* is a function"),
        ("json", nn.Linear, r"scheme\.option: .* is a type"),
        ("json", {1: 2}, r"scheme\.option: .* is a dict"),
        ("toml", {"a", "b"}, r"scheme\.option: .* is a set"),
        ("toml", "\ud800", r"scheme\.option: .* surrogate"),
    ],
)
def test_what_a_kind_of_text_cannot_say_is_refused_and_the_old_file_stays(
    tmp_path: Path, suffix: str, option: object, words: str
):
    path = tmp_path / f"recipe.{suffix}"
    path.write_text("old")
    with pytest.raises(ConfigurationError, match=words):
        QuantizationConfig(scheme={"name": "x", "option": option}).to_file(path)
    assert path.read_text() == "old"


@pytest.mark.parametrize("kind", ["toml", "json"])
def test_a_tuple_is_a_list_so_that_a_recipe_reads_back_equal(kind: str):
    options = {"sizes": (1, (2, 3)), "more": {"bounds": (0.1, 99.9)}}
    change = {"observer": {"name": "y", "bounds": (1,)}}
    config = QuantizationConfig(scheme={"name": "x", **options}, overrides={"fc": change})
    assert config.scheme.options == {"sizes": [1, [2, 3]], "more": {"bounds": [0.1, 99.9]}}
    assert QuantizationConfig.from_text(config.to_text(kind)) == config


def test_a_long_list_has_one_line_for_each_item():
    names = [f"encoder.layer.{index}.attention" for index in range(9)]
    lines = QuantizationConfig(exclude=names).to_text("toml").splitlines()
    assert max(map(len, lines)) < 100
    assert f'    "{names[-1]}",' in lines


def test_reading_recipes_imports_no_torch():
    code = "import sys, mono_quant.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603
