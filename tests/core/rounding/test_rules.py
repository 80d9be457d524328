"""Codes within the limits keep the rules, whatever they are, and the scheme's own are within."""

import pytest
import torch
from torch import Tensor, nn

from mono_quant import Quantizer
from mono_quant.core.rounding.rules import code_limits, within_rules
from mono_quant.core.weights import is_pair_safe, quantize_weight
from mono_quant.plugin_api import LayerPlan


def plan_of(scheme: object) -> LayerPlan:
    quantizer = Quantizer(scheme, algorithms=[], show_progress=False)  # type: ignore[arg-type]
    return quantizer.plan(nn.Sequential(nn.Linear(24, 16))).layers["0"]


def weights() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(64, 24, generator=generator)
    return [rows, rows.abs(), -rows.abs(), rows**5, rows[:, :2], rows[:, :1], torch.zeros(3, 5), torch.ones(3, 5)]


@pytest.mark.parametrize("number", range(8))
def test_any_codes_within_the_limits_are_safe_where_those_of_the_scheme_are(number: int):
    codes = quantize_weight(weights()[number])[0]
    lowest, highest = code_limits(codes, plan_of("int8-static"))
    assert bool(((lowest <= codes) & (codes <= highest)).all())
    generator = torch.Generator().manual_seed(0)
    chosen = torch.rand(codes.shape, generator=generator) < 0.5
    for extreme in (lowest, highest, torch.where(chosen, lowest, highest)):
        assert is_pair_safe(extreme)
        assert int(extreme.min()) >= -127
        assert torch.equal(within_rules(extreme, codes), extreme)


def test_most_codes_have_room_on_both_sides():
    codes = quantize_weight(weights()[0])[0]
    lowest, highest = code_limits(codes, plan_of("int8-static"))
    assert float(((lowest < codes) & (codes < highest)).float().mean()) > 0.8


def test_where_the_whole_range_is_used_only_the_least_code_is_kept_out():
    codes = quantize_weight(weights()[0], "full-range")[0]
    lowest, highest = code_limits(codes, plan_of({"name": "int8-static", "saturation": "full-range"}))
    assert (int(lowest), int(highest)) == (-127, 127)


@pytest.mark.parametrize(
    ("bits", "symmetric", "least"), [(2, True, -2), (5, True, -16), (5, False, -16), (8, False, -128), (8, True, -127)]
)
def test_weights_alone_may_use_all_codes_but_the_least_of_symmetric_int8(bits: int, symmetric: bool, least: int):  # noqa: FBT001
    plan = plan_of({"name": f"int{bits}-weight-only", "granularity": "per-channel", "symmetric": symmetric})
    lowest, highest = code_limits(torch.zeros(16, 24, dtype=torch.int8), plan)
    assert (int(lowest), int(highest)) == (least, 2 ** (bits - 1) - 1)


def test_a_row_that_breaks_the_rule_keeps_what_it_had():
    codes = torch.tensor([[64, 64, 0], [64, 64, 0], [1, 2, 3]], dtype=torch.int8)
    found = torch.tensor([[65, 64, 0], [63, 65, 1], [-128, 0, 0]], dtype=torch.int8)
    expected = torch.tensor([[64, 64, 0], [63, 65, 1], [1, 2, 3]], dtype=torch.int8)
    assert torch.equal(within_rules(found, codes), expected)
