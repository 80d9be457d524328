"""ONNX Runtime."""

import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mono_quant.plugin_api import Batch, Runtime, Support
from mono_quant.runtimes import export_program
from torch import Tensor, nn

from mono_quant_onnx.graph import checked_file, input_names, to_onnx
from mono_quant_onnx.onnx_module import OnnxModule
from mono_quant_onnx.signature import Signature

__all__ = ["OnnxRuntime", "OnnxSession"]


class OnnxRuntime(Runtime):
    """ONNX Runtime on the CPU, from a graph with symbolic axes."""

    def supports(self, model: nn.Module) -> Support:
        """Where the package ``onnxruntime`` is installed."""
        del model
        return Support() if find_spec("onnxruntime") else Support.no("pip install mono-quant-onnx[onnxruntime]")

    def versions(self) -> dict[str, str]:
        """Of the packages that export and run it."""
        return {name: version(name) for name in ("onnx", "onnxscript", "onnxruntime")}

    def compile(self, model: nn.Module, example: Batch) -> nn.Module:
        """Exported, checked, and optimized by a session."""
        program = export_program(model, example)
        signature = Signature.of(program)
        graph = to_onnx(program, sums_integers=True)
        with tempfile.TemporaryDirectory(prefix="mono_quant-") as folder:
            return OnnxSession(signature, input_names(graph), checked_file(graph, Path(folder)))


class OnnxSession(OnnxModule):
    """A file, run by ONNX Runtime.

    Args:
        signature: of the model.
        names: of the inputs of the graph.
        path: of the file.
    """

    def __init__(self, signature: Signature, names: Sequence[str], path: Path) -> None:
        super().__init__(signature, names)
        import onnxruntime  # noqa: PLC0415 - it may not be installed

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(self, inputs: Mapping[str, Tensor]) -> Sequence[Tensor]:
        """As `OnnxModule` says."""
        given: dict[str, Any] = {name: tensor.numpy() for name, tensor in inputs.items()}
        return [torch.from_numpy(output) for output in self._session.run(None, given)]
