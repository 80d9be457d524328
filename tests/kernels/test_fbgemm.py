"""fbgemm packs with settings that belong to the whole process: nobody else may notice."""

import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mono_quant.kernels.fbgemm import FbgemmKernel
from mono_quant.kernels.saturation import worst_linear


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def value_of(code: int) -> float:
    return float(FbgemmKernel().pack(worst_linear(code))(torch.ones(1, 64)).unique().item())


@pytest.mark.usefixtures("frequent_switches")
def test_threads_that_pack_at_once_get_right_results_and_leave_the_process_as_it_was():
    engine, filters = torch.backends.quantized.engine, list(warnings.filters)
    codes = [code for _ in range(20) for code in range(-64, 65)]
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(value_of, codes))
    assert values == [64 * code for code in codes]
    assert torch.backends.quantized.engine == engine
    assert warnings.filters == filters


@pytest.mark.parametrize("engine", ["qnnpack", "onednn", "x86", "fbgemm"])
def test_it_packs_for_fbgemm_whatever_engine_torch_is_set_to(engine: str):
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = engine
    try:
        assert value_of(5) == 320
        assert torch.backends.quantized.engine == engine
    finally:
        torch.backends.quantized.engine = before
