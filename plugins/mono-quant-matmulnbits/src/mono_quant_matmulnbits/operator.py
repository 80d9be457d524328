"""One ``MatMulNBits`` node in a session of ONNX Runtime, run on torch's memory."""

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper
from torch import Tensor

from mono_quant_matmulnbits.blocks import Blocks

__all__ = ["MatMulNBits"]

_FLOAT32_ACCURACY = 1
"""Of ``accuracy_level``: 4 would round the inputs to int8."""
_OPSETS = {"": 17, "com.microsoft": 1}
_IR_VERSION = 8
"""Old ones, so that an older ONNX Runtime reads what a newer onnx writes."""
_ERRORS_ONLY = 3


class MatMulNBits:
    """The product with a weight, float32 ``(rows, K) → (rows, N)``; threads may share it.

    It has as many threads as torch has when it is made.
    """

    def __init__(self, blocks: Blocks) -> None:
        self._channels = blocks.codes.shape[0]
        inputs = {"codes": blocks.codes, "scale": blocks.scale, "zero_point": blocks.zero_point}
        weights = {name: tensor for name, tensor in inputs.items() if tensor is not None}
        options = _options()
        # The weights do not go through the model's bytes, which would hold them twice; the session copies them.
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(tensor.numpy()) for tensor in weights.values()]
        options.add_external_initializers(list(weights), values)
        model = _model(blocks, weights)
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def __call__(self, x: Tensor) -> Tensor:
        """``x · weightᵀ`` in new memory."""
        x = x.detach().to(torch.float32).contiguous()
        y = torch.empty(x.shape[0], self._channels, dtype=torch.float32, device=x.device)
        if not len(x):
            return y
        binding = self._session.io_binding()
        binding.bind_input("x", "cpu", 0, np.float32, tuple(x.shape), x.data_ptr())
        binding.bind_output("y", "cpu", 0, np.float32, tuple(y.shape), y.data_ptr())
        self._session.run_with_iobinding(binding)
        return y


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    # Every layer has threads of its own: when they spin after its work, they take the CPU from the next layer.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # What these two keep for the next call, each layer would keep for itself, for every number of rows.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = _ERRORS_ONLY
    return options


def _model(blocks: Blocks, weights: dict[str, Tensor]) -> bytes:
    """A graph of one node, with names in place of its weights."""
    channels = blocks.codes.shape[0]
    node = helper.make_node(
        "MatMulNBits",
        ["x", *weights],
        ["y"],
        domain="com.microsoft",
        K=blocks.features,
        N=channels,
        bits=4,
        block_size=blocks.size,
        accuracy_level=_FLOAT32_ACCURACY,
    )
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", blocks.features])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", channels])
    graph = helper.make_graph([node], "linear", [x], [y], [_elsewhere(*one) for one in weights.items()])
    opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS.items()]
    serialized: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION).SerializeToString()
    return serialized


def _elsewhere(name: str, tensor: Tensor) -> TensorProto:
    """A tensor whose values are given to the session by name; its location is never looked up."""
    dtype = TensorProto.UINT8 if tensor.dtype == torch.uint8 else TensorProto.FLOAT
    proto = TensorProto(name=name, data_type=dtype, dims=tensor.shape, data_location=TensorProto.EXTERNAL)
    proto.external_data.add(key="location", value="given-to-the-session")
    return proto
