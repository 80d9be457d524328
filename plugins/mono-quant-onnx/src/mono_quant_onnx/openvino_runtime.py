"""OpenVINO."""

import tempfile
import threading
from collections import OrderedDict
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

__all__ = ["OpenVinoModel", "OpenVinoRuntime"]

_MOST_SHAPES = 4
_Shapes = tuple[torch.Size, ...]


class OpenVinoRuntime(Runtime):
    """OpenVINO on the CPU: compiled for each shape it is called with, the last four of them kept.

    Args:
        precision: of what stays float: ``"auto"`` leaves it to OpenVINO, which takes bfloat16 on a CPU that is made for
            it; ``"f32"``; ``"bf16"``.
    """

    def __init__(self, *, precision: str = "auto") -> None:
        if precision not in {"auto", "f32", "bf16"}:
            raise ValueError(f"precision must be 'auto', 'f32' or 'bf16', got {precision!r}")
        self.precision = precision

    def supports(self, model: nn.Module) -> Support:
        """Where the package ``openvino`` is installed."""
        del model
        return Support() if find_spec("openvino") else Support.no("pip install mono-quant-onnx[openvino]")

    def versions(self) -> dict[str, str]:
        """Of the packages that export and run it."""
        return {name: version(name) for name in ("onnx", "onnxscript", "openvino")}

    def compile(self, model: nn.Module, example: Batch) -> nn.Module:
        """Exported, checked, and compiled for the shapes of the example."""
        program = export_program(model, example)
        signature, graph = Signature.of(program), to_onnx(program)
        with tempfile.TemporaryDirectory(prefix="mono_quant-") as folder:
            path = checked_file(graph, Path(folder))
            compiled = OpenVinoModel(signature, input_names(graph), path, self.precision)
        compiled(*example.args, **example.kwargs)
        return compiled

    def details(self, compiled: nn.Module) -> str:
        """The precision of floats."""
        return f"floats as {compiled.precision}" if isinstance(compiled, OpenVinoModel) else ""


class OpenVinoModel(OnnxModule):
    """A file, run by OpenVINO.

    Args:
        signature: of the model.
        names: of the inputs of the graph.
        path: of the file.
        precision: as of `OpenVinoRuntime`.
    """

    def __init__(self, signature: Signature, names: Sequence[str], path: Path, precision: str) -> None:
        super().__init__(signature, names)
        import openvino  # noqa: PLC0415 - it may not be installed

        self._core = openvino.Core()
        self._model = self._core.read_model(path).clone()
        self._config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            **({} if precision == "auto" else {"INFERENCE_PRECISION_HINT": precision}),
        }
        self._compiled: OrderedDict[_Shapes, Any] = OrderedDict()
        self._lock = threading.Lock()
        self.precision = precision

    def run(self, inputs: Mapping[str, Tensor]) -> Sequence[Tensor]:
        """As `OnnxModule` says."""
        with self._lock:  # a compiled model has one request that all calls use
            request = self._request_for(inputs)
            results = request.infer([tensor.numpy() for tensor in inputs.values()], share_inputs=True)
            return [torch.from_numpy(results[output]) for output in range(len(results))]

    def _request_for(self, inputs: Mapping[str, Tensor]) -> Any:  # noqa: ANN401 - OpenVINO's
        """An infer request for these shapes."""
        shapes = tuple(tensor.shape for tensor in inputs.values())
        if shapes not in self._compiled:
            model = self._model.clone()
            model.reshape({name: list(tensor.shape) for name, tensor in inputs.items()})
            compiled = self._core.compile_model(model, "CPU", self._config)
            self.precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
            self._compiled[shapes] = compiled.create_infer_request()
            if len(self._compiled) > _MOST_SHAPES:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(shapes)
        return self._compiled[shapes]
