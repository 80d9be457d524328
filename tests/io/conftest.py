"""One quantized model that all tests of files share, with everything in it that a file must carry."""

import pytest
import torch
from everything import Everything, inputs

from mono_quant import QuantizationResult, Quantizer


@pytest.fixture(scope="session")
def result() -> QuantizationResult:
    torch.manual_seed(0)
    return Quantizer(kernel="reference", show_progress=False).quantize(Everything(), inputs())
