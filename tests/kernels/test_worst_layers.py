"""Every fast kernel against the reference on the worst layers, on this CPU and where there is no VNNI.

There the kernels add two products in int16. Each CPU is a process of its own, which ran ``on_this_cpu.py``.
"""

import pytest
from on_this_cpu import KERNELS, Findings, runs

from mono_quant.testing import adversarial

CASES = pytest.mark.parametrize(
    ("name", "geometry"),
    [(name, geometry) for name in KERNELS for geometry in adversarial.GEOMETRIES if runs(name, geometry)],
    ids=str,
)
INT16_MAX = 2**15 - 1


@CASES
def test_on_this_cpu_every_weight_allowed_gives_what_the_reference_gives(
    this_cpu: Findings, name: str, geometry: adversarial.Geometry
):
    distances = this_cpu["distance"][name][str(geometry)]
    full_range = set() if this_cpu["pairs_int16"][name] else set(adversarial.full_range_weights(geometry))
    assert set(distances) == set(adversarial.weights(geometry)) | full_range
    assert {label: distance for label, distance in distances.items() if distance > 1} == {}


@CASES
def test_on_avx2_pair_safe_weights_give_what_the_reference_gives(
    avx2: Findings, name: str, geometry: adversarial.Geometry
):
    distances = avx2["distance"][name][str(geometry)]
    assert set(distances) == set(adversarial.weights(geometry))
    assert {label: distance for label, distance in distances.items() if distance > 1} == {}


def test_on_avx2_both_kernels_are_found_to_pair_in_int16(avx2: Findings):
    assert avx2["pairs_int16"] == {"fbgemm": True, "onednn": True}


def test_on_avx2_full_range_weights_would_be_clipped_in_every_pair(avx2: Findings):
    for found in avx2["full_range"]:
        assert found["exact"] == found["terms"] * 127 * 255
        assert found["value"] == found["terms"] / 2 * INT16_MAX, (found["kernel"], found["kind"])


def test_on_avx2_full_range_weights_are_refused(avx2: Findings):
    refusals = [found["refusal"] for found in avx2["full_range"]]
    assert len(refusals) == 3
    assert all("adds products in int16" in refusal for refusal in refusals)


def test_on_avx2_pair_safe_weights_are_accepted(avx2: Findings):
    assert avx2["pair_safe_refusals"] == [""] * 4


def test_a_kernel_pickled_on_another_cpu_looks_at_this_one(avx2: Findings):
    assert avx2["pairs_int16_when_unpickled"] == [True, True]
