"""Peak memory of `Quantizer.quantize`, over what the float model already takes.

Counted is anonymous memory, sampled each millisecond; pages of a mapped file are the page cache's.
The bound is the quantized model as it runs (its tensors and the packed weights of its kernels) and one batch's
activations (the peak of a bare forward pass).
"""

import json
import math
import sys
import threading
import time
from pathlib import Path
from typing import Self

import torch
from torch import nn

from mono_quant import Quantizer
from mono_quant.calibration.data import as_batch
from mono_quant.calibration.runner import evaluating
from mono_quant.io import calculate_model_size
from mono_quant.modules import QuantizedModule

from .workloads import workload

_MB = 2**20


class Peak:
    """The largest anonymous memory of this process, in MB over that at the start, while the block runs."""

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
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) / 1024


def main(name: str) -> dict[str, object]:
    load = workload(name)
    model, batches = load.load(), load.calibration()[:4]
    Quantizer().quantize(nn.Sequential(nn.Linear(8, 8)), [torch.randn(4, 8)])  # what is loaded once is not counted
    with Peak() as forward, evaluating(model):
        for batch in map(as_batch, batches):
            model(*batch.args, **batch.kwargs)
    with Peak() as quantize:
        result = Quantizer(show_progress=False).quantize(model, batches)
    tensors = calculate_model_size(result.model)[0]
    layers = [module for module in result.model.modules() if isinstance(module, QuantizedModule)]
    packed = sum(math.prod(spec.shape) for layer in layers for spec in layer.weight_specs.values()) / _MB
    return {
        "float_mb": calculate_model_size(model)[0],
        "tensors_mb": tensors,
        "packed_mb": packed,
        "activations_mb": forward.mb,
        "peak_mb": quantize.mb,
        "bound_mb": tensors + packed + forward.mb,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1])) + "\n")
