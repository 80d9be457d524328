"""Files, validation, and what users hand over."""

from mono_quant.io.files import load_model, load_pytorch, load_safetensors, save_model, save_pytorch, save_safetensors
from mono_quant.io.handlers import _detect_input_format, _prepare_model, _validate_model
from mono_quant.io.statistics import LayerStatistics, load_statistics, save_statistics
from mono_quant.io.validation import ValidationResult, calculate_model_size, calculate_sqnr, validate_quantization

__all__ = [
    "LayerStatistics",
    "ValidationResult",
    "_detect_input_format",
    "_prepare_model",
    "_validate_model",
    "calculate_model_size",
    "calculate_sqnr",
    "load_model",
    "load_pytorch",
    "load_safetensors",
    "load_statistics",
    "save_model",
    "save_pytorch",
    "save_safetensors",
    "save_statistics",
    "validate_quantization",
]
