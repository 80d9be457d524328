"""Running calibration data through a model."""

from mono_quant.calibration.data import CalibrationData, _normalize_calibration_data
from mono_quant.calibration.runner import run_calibration

__all__ = ["CalibrationData", "_normalize_calibration_data", "run_calibration"]
