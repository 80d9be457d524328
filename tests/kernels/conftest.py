"""The kernels, and what a process that may use AVX2 at most finds out about them."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from on_this_cpu import Findings

from mono_quant.kernels.fbgemm import FbgemmKernel
from mono_quant.kernels.onednn import OnednnKernel
from mono_quant.kernels.select import forget_measurements

_AVX2_ONLY = {"ONEDNN_MAX_CPU_ISA": "AVX2", "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}


@pytest.fixture(scope="session")
def used_kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernels, pickled after they looked at this CPU."""
    kernels = [FbgemmKernel(), OnednnKernel()]
    assert {kernel.pairs_int16 for kernel in kernels} <= {True, False}
    path = tmp_path_factory.mktemp("kernels") / "used.pickle"
    path.write_bytes(pickle.dumps(kernels))
    return path


@pytest.fixture(scope="session")
def this_cpu(used_kernels: Path) -> Findings:
    """What ``on_this_cpu.py`` prints with all that this CPU can do."""
    return _findings(used_kernels, {})


@pytest.fixture(scope="session")
def avx2(used_kernels: Path) -> Findings:
    """The same where nothing better than AVX2 may be used, so no VNNI."""
    return _findings(used_kernels, _AVX2_ONLY)


def _findings(pickled: Path, limits: dict[str, str]) -> Findings:
    script = Path(__file__).with_name("on_this_cpu.py")
    run = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, str(script), str(pickled)],
        # Threads that spin while they wait make thousands of small calls slow where others use the processor too.
        env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"} | limits,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    findings: Findings = json.loads(run.stdout)
    return findings


@pytest.fixture(autouse=True)
def nothing_known_before() -> Iterator[None]:
    """Verdicts and measurements of other tests do not count."""
    forget_measurements()
    yield
    forget_measurements()


@pytest.fixture(autouse=True)
def process_state_is_kept() -> Iterator[None]:
    """No kernel leaves a change in torch's settings."""
    before = torch.backends.quantized.engine
    yield
    assert torch.backends.quantized.engine == before
