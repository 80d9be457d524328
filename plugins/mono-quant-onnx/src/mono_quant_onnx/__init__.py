"""Quantized models as standard ONNX: the format ``onnx``, and the runtimes ``onnxruntime`` and ``openvino``."""

from mono_quant import hookimpl
from mono_quant.plugin_api import FormatSpec, RuntimeSpec

__all__ = ["mono_quant_formats", "mono_quant_runtimes"]


@hookimpl
def mono_quant_formats() -> list[FormatSpec]:
    """Announce it; what it needs is imported when it is used."""
    return [
        FormatSpec(
            name="onnx",
            summary=".onnx files: programs in standard ONNX (QDQ)",
            factory="mono_quant_onnx.onnx_format:OnnxFormat",
            suffixes=(".onnx",),
        )
    ]


@hookimpl
def mono_quant_runtimes() -> list[RuntimeSpec]:
    """Announce them; what they need is imported when they are used."""
    return [
        RuntimeSpec(
            name="onnxruntime",
            summary="ONNX Runtime on the CPU, from standard ONNX",
            factory="mono_quant_onnx.onnxruntime_runtime:OnnxRuntime",
        ),
        RuntimeSpec(
            name="openvino",
            summary="OpenVINO on the CPU, from standard ONNX",
            factory="mono_quant_onnx.openvino_runtime:OpenVinoRuntime",
        ),
    ]
