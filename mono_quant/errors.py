"""Everything mono_quant raises or warns of: one tree, each error also the builtin it resembles."""

__all__ = [
    "ArtifactError",
    "CalibrationError",
    "CompilationError",
    "ConfigurationError",
    "MonoQuantError",
    "PluginConflictError",
    "PluginError",
    "PluginWarning",
    "QuantizationWarning",
    "TargetError",
    "UnknownPluginError",
    "UnsupportedLayerError",
    "ValidationError",
]


class MonoQuantError(Exception):
    """Base of every error that mono_quant raises on purpose."""


class ConfigurationError(MonoQuantError, ValueError):
    """An option, pattern or plan that cannot be meant."""


class CalibrationError(MonoQuantError, RuntimeError):
    """The calibration data, or the model run on it, cannot give statistics."""


class CompilationError(MonoQuantError, RuntimeError):
    """A runtime cannot run the quantized model, or does not give there what it should."""


class UnsupportedLayerError(MonoQuantError, TypeError):
    """A layer was asked to be quantized and cannot be."""


class ValidationError(MonoQuantError, ValueError):
    """The quantized model failed a check and ``on_failure`` is ``"error"``."""


class TargetError(MonoQuantError, ValueError):
    """No quantized model was found that meets the target; ``best`` is the result that comes nearest."""

    def __init__(self, message: str, best: object = None) -> None:
        super().__init__(message)
        self.best = best


class ArtifactError(MonoQuantError, ValueError):
    """A file cannot be written or read as asked."""


class PluginError(MonoQuantError):
    """A plugin cannot be imported, registered or used."""


class UnknownPluginError(PluginError, LookupError):
    """No registered component has the name that was asked for."""


class PluginConflictError(PluginError):
    """Two providers claim the same thing and neither was named."""


class QuantizationWarning(UserWarning):
    """Something about the quantized model that its owner should know."""


class PluginWarning(UserWarning):
    """A third-party plugin could not be used; unrelated work goes on."""
