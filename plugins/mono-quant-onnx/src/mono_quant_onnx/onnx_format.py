"""The ``.onnx`` format."""

import json
from collections.abc import Collection, Mapping
from importlib.util import find_spec
from pathlib import Path

import onnx
from mono_quant.core.granularity import PerGroup
from mono_quant.errors import ArtifactError, CompilationError
from mono_quant.plugin_api import Artifact, Batch, LayerPlan, ProgramFormat, WeightSpec
from mono_quant.runtimes import export_program
from torch import nn

from mono_quant_onnx.graph import OPSET, to_onnx
from mono_quant_onnx.onnx_file import write_graph
from mono_quant_onnx.onnx_module import OnnxModule
from mono_quant_onnx.onnxruntime_runtime import OnnxSession
from mono_quant_onnx.openvino_runtime import OpenVinoModel
from mono_quant_onnx.signature import Signature

__all__ = ["OnnxFormat"]

_MANIFEST = "mono_quant"
_CALL = "mono_quant_call"
_OPSETS = (18, *range(OPSET, 26))
"""``torch.onnx`` writes from 18 on, and its converter does not reach 19 and 20."""


class OnnxFormat(ProgramFormat):
    """Standard ONNX, the manifest in ``metadata_props``: codes and scales as they are stored, axes of any size.

    Args:
        opset: of ONNX: 21, the first with int4 and with scales of groups, a later one, or 18.
        external_data: bytes of tensors from which on they are a file of their own, beside the graph; a file of ONNX
            cannot be larger than 2 GB. 0 for always.
    """

    def __init__(self, *, opset: int = OPSET, external_data: int = 1_500_000_000) -> None:
        if opset not in _OPSETS:
            raise ValueError(f"opset must be one of {', '.join(map(str, _OPSETS))}, got {opset!r}")
        if not isinstance(external_data, int) or external_data < 0:
            raise ValueError(f"external_data must be a number of bytes, got {external_data!r}")
        self.opset = opset
        self.external_data = external_data

    def refusals(self, layers: Mapping[str, LayerPlan], kept: Collection[str] = ()) -> Mapping[str, str]:
        """Layers whose codes ONNX has no type or no operator for, in this opset."""
        del kept
        reasons = {name: self._why_not(layer) for name, layer in layers.items()}
        return {name: reason for name, reason in reasons.items() if reason}

    def can_store(self, artifact: Artifact) -> list[str]:
        """Plain tensors on the CPU; what else cannot be is found when the model is exported."""
        return [
            f"tensor {name!r} is {tensor.layout} on {tensor.device}: only dense tensors on the CPU can be stored"
            for name, tensor in artifact.tensors.items()
            if tensor.is_sparse or tensor.device.type != "cpu"
        ]

    def save_program(self, model: nn.Module, example: Batch, artifact: Artifact, path: Path) -> None:
        """Export, check and write."""
        self._refuse_layers(model)
        try:
            program = export_program(model, example)
            signature = Signature.of(program)
            graph = to_onnx(program, opset=self.opset)
            graph.metadata_props[_CALL] = signature.to_text()
            if artifact.manifest is not None:
                graph.metadata_props[_MANIFEST] = json.dumps(artifact.manifest, sort_keys=True)
            write_graph(graph, path, self.external_data)
        except CompilationError as error:
            raise ArtifactError(f"it cannot become ONNX: {error}. Or save it as .safetensors") from error

    def load(self, path: Path) -> Artifact:
        """Refused: a graph has codes in the shapes that its operators want, and not the model's tensors by their names.

        Raises:
            ArtifactError: always.
        """
        _metadata(path)
        raise ArtifactError(
            f"{path} is a graph, which does not hold the model's tensors by their names: load it without a model, and "
            "save a .safetensors file beside it for the model's class"
        )

    def load_program(self, path: Path) -> nn.Module:
        """The graph in ONNX Runtime, or in OpenVINO where that alone is installed."""
        graph, metadata = _metadata(path)
        if _CALL not in metadata:
            raise ArtifactError(f"{path} was not written by mono_quant: it does not say how the model is called")
        try:
            signature = Signature.from_text(metadata[_CALL])
            return _run(signature, [one.name for one in graph.graph.input], path)
        except ArtifactError:
            raise
        except Exception as error:  # each reader has kinds of its own
            raise ArtifactError(f"{path} cannot be run: {type(error).__name__}: {_line(error)}") from error

    def _refuse_layers(self, model: nn.Module) -> None:
        """What `refusals` says, of the layers themselves, before anything is exported."""
        for name, module in model.named_modules():
            for spec in getattr(module, "weight_specs", {}).values():
                if reason := self._why_not_weight(spec, is_embedding=isinstance(module, nn.Embedding)):
                    raise ArtifactError(f"layer {name!r} cannot become ONNX: {reason}")

    def _why_not(self, layer: LayerPlan) -> str:
        is_embedding = layer.layer_type == "Embedding"
        reasons = (self._why_not_weight(spec, is_embedding=is_embedding) for spec in layer.weights.values())
        return next(filter(None, reasons), "")

    def _why_not_weight(self, spec: WeightSpec, *, is_embedding: bool) -> str:
        if is_embedding and spec.dtype.name.startswith("float8"):
            return "ONNX cannot gather rows of float8: take int8-weight-only, or keep it in float"
        if self.opset >= OPSET:
            return ""
        if isinstance(spec.granularity, PerGroup):
            return f"scales of groups need opset {OPSET}, not {self.opset}: leave opset out, or take scales of channels"
        if spec.dtype.name.startswith(("int4", "float8")):
            return f"codes of {spec.dtype.name} need opset {OPSET}, not {self.opset}: leave opset out, or take int8"
        return ""


def _metadata(path: Path) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The graph, without tensors of other files, and what is written about it.

    Raises:
        ArtifactError: when it is no file of ONNX.
    """
    try:
        graph = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(path)
    except Exception as error:  # of protobuf, of onnx, of the system
        raise ArtifactError(f"{path} cannot be read as ONNX: {type(error).__name__}: {_line(error)}") from error
    return graph, {one.key: one.value for one in graph.metadata_props}


def _run(signature: Signature, names: list[str], path: Path) -> OnnxModule:
    if find_spec("onnxruntime"):
        return OnnxSession(signature, names, path)
    if find_spec("openvino"):
        return OpenVinoModel(signature, names, path, "f32")
    raise ArtifactError(f"{path} needs something that runs ONNX: pip install mono-quant-onnx[onnxruntime]")


def _line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), "no message")
