"""Post-training quantization for any ``nn.Module``: no tracing, real int8 kernels, plain tensors, all of it plugins.

>>> import mono_quant, torch
>>> model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
>>> result = mono_quant.Quantizer().quantize(model, [torch.randn(8, 16) for _ in range(10)])
>>> result.info.selected_layers
('0', '2')
"""

from typing import TYPE_CHECKING

from mono_quant._lazy import lazy_attributes
from mono_quant.version import __version__

if TYPE_CHECKING:
    from mono_quant.checkpoint import QuantizedCheckpoint as QuantizedCheckpoint
    from mono_quant.config import QuantizationConfig as QuantizationConfig
    from mono_quant.converting import convert as convert
    from mono_quant.functional import dequantize_model as dequantize_model
    from mono_quant.functional import dynamic_quantize as dynamic_quantize
    from mono_quant.functional import quantize as quantize
    from mono_quant.functional import static_quantize as static_quantize
    from mono_quant.info import QuantizationInfo as QuantizationInfo
    from mono_quant.io.files import load_model as load_model
    from mono_quant.io.files import save_model as save_model
    from mono_quant.io.validation import ValidationResult as ValidationResult
    from mono_quant.io.validation import validate_quantization as validate_quantization
    from mono_quant.layer_report.record import LayerReport as LayerReport
    from mono_quant.plugin_api.markers import hookimpl as hookimpl
    from mono_quant.plugin_api.source import Batch as Batch
    from mono_quant.quantizer import Quantizer as Quantizer
    from mono_quant.result import QuantizationResult as QuantizationResult
    from mono_quant.targets.target import MaxDrop as MaxDrop
    from mono_quant.targets.target import MaxSize as MaxSize
    from mono_quant.targets.target import MinSQNR as MinSQNR

_HOMES = {
    "Batch": "mono_quant.plugin_api.source",
    "LayerReport": "mono_quant.layer_report.record",
    "MaxDrop": "mono_quant.targets.target",
    "MaxSize": "mono_quant.targets.target",
    "MinSQNR": "mono_quant.targets.target",
    "QuantizationConfig": "mono_quant.config",
    "QuantizationInfo": "mono_quant.info",
    "QuantizationResult": "mono_quant.result",
    "QuantizedCheckpoint": "mono_quant.checkpoint",
    "Quantizer": "mono_quant.quantizer",
    "ValidationResult": "mono_quant.io.validation",
    "convert": "mono_quant.converting",
    "dequantize_model": "mono_quant.functional",
    "dynamic_quantize": "mono_quant.functional",
    "hookimpl": "mono_quant.plugin_api.markers",
    "load_model": "mono_quant.io.files",
    "quantize": "mono_quant.functional",
    "save_model": "mono_quant.io.files",
    "static_quantize": "mono_quant.functional",
    "validate_quantization": "mono_quant.io.validation",
}

__all__ = [
    "Batch",
    "LayerReport",
    "MaxDrop",
    "MaxSize",
    "MinSQNR",
    "QuantizationConfig",
    "QuantizationInfo",
    "QuantizationResult",
    "QuantizedCheckpoint",
    "Quantizer",
    "ValidationResult",
    "__version__",
    "convert",
    "dequantize_model",
    "dynamic_quantize",
    "hookimpl",
    "load_model",
    "quantize",
    "save_model",
    "static_quantize",
    "validate_quantization",
]

# Lazy, so that `import mono_quant` costs next to nothing and imports no plugin.
__getattr__, __dir__ = lazy_attributes(__name__, _HOMES)
