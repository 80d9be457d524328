"""Quantized models as standard ONNX, and the runtimes ``onnxruntime`` and ``openvino`` that run them."""

from mono_quant import hookimpl
from mono_quant.plugin_api import RuntimeSpec

__all__ = ["mono_quant_runtimes"]


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
