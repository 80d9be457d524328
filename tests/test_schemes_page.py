"""What docs/reference/schemes.md claims, by the checks that write it, and what the page says of each layer.

Here the layers stand side by side in one model, so that there is one file for each scheme.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import torch
from bench.schemes.__main__ import PAGE
from bench.schemes.claims import expected_tensors, wrong_in_file, wrong_weights
from bench.schemes.combination import Finding, Refusal, check, planned, quantizer_for
from bench.schemes.layers import LAYERS, MIXED, LayerCase, Layers
from bench.schemes.storage import PARTS, Storage, weight_tensors
from bench.schemes.stored_file import StoredFile
from bench.schemes.variants import MIX, OPTION_SCHEMES, Variant, defaults, of_options, registered

from mono_quant import Quantizer

DEFAULTS = [*defaults(registered()), MIX]
WIDTHS = ("int8-weight-only", "int4-weight-only", "int3-weight-only", "float8-weight-only")
"""Codes of a byte, of half a byte, across bytes, and of floats; the page has the others too."""
OPTIONS = [variant for scheme in WIDTHS for variant in of_options(scheme)]
FEW = ("Linear(384", "Linear(320", "ConvTranspose2d", "EmbeddingBag")
"""Layers for the options: each grain that there is, groups that fit and that do not, channels along the second axis."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cases_of(variant: Variant) -> tuple[LayerCase, ...]:
    return (MIXED,) if variant is MIX else LAYERS


def checked(variant: Variant, cases: tuple[LayerCase, ...], folder: Path) -> tuple[Finding, list[Refusal]]:
    """What is found of all layers that the scheme takes, and those that it refuses."""
    quantizer = quantizer_for(variant)
    plans = [(case, planned(quantizer, variant, case)) for case in cases]
    taken = [case for case, plan in plans if not isinstance(plan, Refusal) and plan.layers]
    return check(quantizer, variant, taken, folder), [plan for _, plan in plans if isinstance(plan, Refusal)]


@pytest.mark.parametrize("variant", DEFAULTS, ids=lambda variant: variant.title)
def test_every_layer_of_a_scheme_is_stored_loaded_and_computed_as_the_page_claims(variant: Variant, tmp_path: Path):
    finding, refusals = checked(variant, cases_of(variant), tmp_path)
    assert (finding.wrong, finding.changed, refusals) == ((), (), [])
    assert finding.size == finding.theory
    assert finding.errors


@pytest.mark.parametrize("variant", OPTIONS, ids=lambda variant: f"{variant.scheme}, {variant.title}")
def test_so_it_is_with_every_option(variant: Variant, tmp_path: Path):
    finding, refusals = checked(variant, tuple(case for case in LAYERS if case.title.startswith(FEW)), tmp_path)
    assert (finding.wrong, finding.changed) == ((), ())
    assert finding.size == finding.theory
    misfits = 3 if variant.storage.scales == "group" and variant.storage.misfit == "error" else 0
    assert [refusal.is_expected for refusal in refusals] == [True] * misfits


def rows_of_the_page() -> dict[tuple[str, str], list[str]]:
    """Title of the table and of the layer → the cells behind."""
    rows = {}
    for section in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title = section.partition("\n")[0]
        for line in section.splitlines():
            if line.startswith("| "):
                layer, *cells = line.strip("| ").split(" | ")
                rows[title, layer] = cells
    return rows


@pytest.mark.parametrize("variant", DEFAULTS, ids=lambda variant: variant.title)
def test_the_page_has_every_layer_with_the_bytes_of_theory_or_the_reason(variant: Variant):
    """Where it has not: ``nox -s schemes`` writes it anew."""
    quantizer, rows = quantizer_for(variant), rows_of_the_page()
    for case in cases_of(variant):
        cells = rows[variant.title, case.title]
        plan = planned(quantizer, variant, case)
        assert not isinstance(plan, Refusal)
        if not plan.layers:
            assert f"float: {plan.kept[case.name]}" in cells[-1]
            continue
        model = Layers(case)
        tensors = expected_tensors(model, plan, variant, [case]).values()
        parts = [sum(t.nbytes for t in tensors if t.part == part) for part in PARTS]
        numbers = [int(cell.replace(",", "")) for cell in cells[:8]]
        before, *on_page, header, theory, size = numbers
        assert on_page == parts
        assert before == sum(tensor.nbytes for tensor in model.state_dict().values())
        assert header + sum(parts) == theory == size
        assert cells[-1] == "same bits"


def test_the_page_has_a_table_for_the_options_of_each_scheme_that_has_some():
    titles = {title for title, _ in rows_of_the_page()}
    assert {f"Options of `{scheme}`" for scheme in OPTION_SCHEMES} <= titles
    assert "These claims do not hold" not in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("storage", "sizes"),
    [
        (Storage(codes="I8", bits=8), {"w": 15, "w_scale": 12}),
        (Storage(codes="U8", bits=3), {"w": 6, "w_scale": 12}),
        (Storage(codes="U8", bits=4, scales="tensor", is_symmetric=False), {"w": 9, "w_scale": 4, "w_zero_point": 1}),
        (
            Storage(codes="U8", bits=7, scales="group", group=2, misfit="pad", is_symmetric=False),
            {"w": 15, "w_scale": 36, "w_zero_point": 9},
        ),
        (Storage(codes="U8", bits=2, scales="group", group=4, misfit="adjust"), {"w": 6, "w_scale": 12}),
        (Storage(codes="BF16", bits=16, scales=None), {"w": 30}),
    ],
)
def test_theory_gives_bytes_that_were_counted_by_hand(storage: Storage, sizes: dict[str, int]):
    """Three channels of five weights."""
    tensors = weight_tensors("w", (3, 5), 0, storage)
    assert {name: tensor.nbytes for name, tensor in tensors.items()} == sizes


@pytest.fixture
def int4() -> Variant:
    return next(variant for variant in DEFAULTS if variant.scheme == "int4-weight-only")


@pytest.mark.parametrize(
    "change", [{"bits": 5}, {"is_symmetric": True}, {"group": 64}, {"scales": "channel"}, {"misfit": "adjust"}]
)
def test_a_file_that_is_stored_in_another_way_is_found(int4: Variant, change: dict[str, object], tmp_path: Path):
    other = attrs.evolve(int4, storage=attrs.evolve(int4.storage, **change))
    finding = check(quantizer_for(int4), other, [LAYERS[1]], tmp_path)
    assert finding.wrong


def test_one_bit_is_found(int4: Variant, tmp_path: Path):
    case = LAYERS[0]
    quantizer, model, path = quantizer_for(int4), Layers(case), tmp_path / "model.safetensors"
    result = quantizer.quantize(model)
    result.save(path)
    content = bytearray(path.read_bytes())
    loaded = Quantizer(autoload=False).load(path, Layers(case))
    expected = expected_tensors(model, result.plan, int4, [case])
    file = StoredFile(bytes(content))
    assert [*wrong_in_file(file, expected, model.state_dict()), *wrong_weights(loaded, file.weights())] == []
    begin = len(content) - sum(tensor.nbytes for tensor in expected.values())
    for name, entry in file.entries.items():
        changed = content.copy()
        changed[begin + entry["data_offsets"][0]] ^= 1
        broken = StoredFile(bytes(changed))
        wrong = [*wrong_in_file(broken, expected, model.state_dict()), *wrong_weights(loaded, broken.weights())]
        assert len(wrong) == 1, name
