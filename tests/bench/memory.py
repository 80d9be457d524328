"""Peak memory of `Quantizer.quantize`, over what the float model already takes.

Counted is anonymous memory, sampled each millisecond; pages of a mapped file are the page cache's.
The bound is the quantized model as it runs (its tensors and the packed weights of its kernels) and one batch's
activations: its input, and the peak of a bare forward pass of the float or of the quantized model, whichever is higher.
"""

import json
import math
import sys
import threading
import time
from pathlib import Path
from typing import Self

from torch import nn

from mono_quant import Quantizer
from mono_quant.calibration.data import as_batch
from mono_quant.calibration.runner import evaluating
from mono_quant.core.tensors import iter_tensors
from mono_quant.io import calculate_model_size
from mono_quant.modules import QuantizedModule
from tests.real_models import ModelInput

from .workloads import workload

_MB = 2**20


class Peak:
    """The largest anonymous and shared memory of this process, in MB over that at the start, while the block runs."""

    def __enter__(self) -> Self:
        self._start = self._now()
        self.mb = 0.0
        self._is_done = False
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_done = True
        self._thread.join()

    def _sample(self) -> None:
        while not self._is_done:
            self.mb = max(self.mb, self._now() - self._start)
            time.sleep(0.001)

    @staticmethod
    def _now() -> float:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:"))) / 1024


def main(name: str) -> dict[str, object]:
    load = workload(name)
    model, batches = load.load(), load.calibration()[:4]
    Quantizer(show_progress=False).quantize(model, batches)  # what is imported, or compiled by oneDNN, is not counted
    floats = _forward_mb(model, batches)
    with Peak() as quantize:
        result = Quantizer(show_progress=False).quantize(model, batches)
    inputs = sum(x.nbytes for x in iter_tensors((as_batch(batches[0]).args, as_batch(batches[0]).kwargs))) / _MB
    activations = inputs + max(floats, _forward_mb(result.model, batches))
    tensors = calculate_model_size(result.model)[0]
    layers = [module for module in result.model.modules() if isinstance(module, QuantizedModule)]
    packed = sum(math.prod(spec.shape) for layer in layers for spec in layer.weight_specs.values()) / _MB
    return {
        "float_mb": calculate_model_size(model)[0],
        "tensors_mb": tensors,
        "packed_mb": packed,
        "activations_mb": activations,
        "peak_mb": quantize.mb,
        "bound_mb": tensors + packed + activations,
    }


def _forward_mb(model: nn.Module, batches: list[ModelInput]) -> float:
    with Peak() as peak, evaluating(model):
        for batch in map(as_batch, batches):
            model(*batch.args, **batch.kwargs)
    return peak.mb


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1])) + "\n")
