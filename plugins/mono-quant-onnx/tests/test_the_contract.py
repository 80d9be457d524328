"""What every runtime promises: single layers against integers, models against the reference kernels."""

from mono_quant.testing import RuntimeSuite
from mono_quant.testing.adversarial import GEOMETRIES

from mono_quant_onnx.onnxruntime_runtime import OnnxRuntime
from mono_quant_onnx.openvino_runtime import OpenVinoRuntime


class TestOnnxRuntime(RuntimeSuite):
    geometries = GEOMETRIES[::2]  # each of the layers by one of the two: exporting them takes some seconds
    rounds_bias = True
    sums_floats = True  # convolutions whose output is no input of a quantized layer

    def make(self):
        return OnnxRuntime()


class TestOpenVino(RuntimeSuite):
    geometries = GEOMETRIES[1::2]
    rounds_bias = True

    def make(self):
        return OpenVinoRuntime(precision="f32")
