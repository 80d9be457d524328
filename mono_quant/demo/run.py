"""The demo: the package's own classifier and data through the same calls that everybody uses."""

from pathlib import Path

import attrs
import torch
from torch import Tensor, nn

from mono_quant.demo.data import calibration_data, test_data
from mono_quant.demo.model import DigitsClassifier, demo_model
from mono_quant.io.files import save_model
from mono_quant.quantizer import Quantizer
from mono_quant.result import QuantizationResult

__all__ = ["DemoOutcome", "run_demo"]


@attrs.frozen(kw_only=True, eq=False)
class DemoOutcome:
    """What the demo found.

    Args:
        result: of the quantization.
        path: the file that was written.
        images: how many held-back images the accuracies are over.
        float_accuracy: percent of them that the float model reads right.
        int8_accuracy: the same of the quantized model, as loaded from the file.
        float_bytes: size of the float model's file.
        int8_bytes: size of the quantized one's.
    """

    result: QuantizationResult
    path: Path
    images: int
    float_accuracy: float
    int8_accuracy: float
    float_bytes: int
    int8_bytes: int

    def figures(self) -> dict[str, float | int | str | bool | None]:
        """The figures alone."""
        info, validation = self.result.info, self.result.validation
        return {
            "float_accuracy": self.float_accuracy,
            "int8_accuracy": self.int8_accuracy,
            "sqnr_db": info.sqnr_db,
            "float_bytes": self.float_bytes,
            "int8_bytes": self.int8_bytes,
            "file_ratio": self.float_bytes / self.int8_bytes,
            "speedup": info.speedup,
            "load_test_passed": validation is not None and validation.load_test_passed,
            "path": str(self.path),
        }


def run_demo(path: Path) -> DemoOutcome:
    """Quantize the digits classifier, write it to ``path``, load it from there and measure both."""
    model = demo_model()
    quantizer = Quantizer()
    result = quantizer.quantize(model, calibration_data())
    result.save(path)
    loaded = quantizer.load(path, DigitsClassifier)
    images, labels = test_data()
    return DemoOutcome(
        result=result,
        path=path,
        images=len(images),
        float_accuracy=_accuracy(model, images, labels),
        int8_accuracy=_accuracy(loaded, images, labels),
        float_bytes=_float_bytes(model, path),
        int8_bytes=path.stat().st_size,
    )


def _accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Percent of right answers."""
    with torch.no_grad():
        return 100 * float((model(images).argmax(dim=1) == labels).double().mean())


def _float_bytes(model: nn.Module, beside: Path) -> int:
    """Size of the float model saved in the same format."""
    path = beside.with_name(f".{beside.stem}-float{beside.suffix}")
    try:
        save_model(model, path)
        return path.stat().st_size
    finally:
        path.unlink(missing_ok=True)
