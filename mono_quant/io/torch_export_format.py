"""The ``.pt2`` format: a program of ``torch.export`` that needs neither the model's class nor mono_quant."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

from mono_quant._atomic import replacing
from mono_quant.calibration.data import describe
from mono_quant.errors import ArtifactError
from mono_quant.io.exporting import exported, in_a_line
from mono_quant.io.json_text import dump_object
from mono_quant.io.limits import opened
from mono_quant.io.program_graph import tidy
from mono_quant.io.pt2_file import MANIFEST_FILE, read_pt2
from mono_quant.io.storable import why_not_stored
from mono_quant.io.zip_records import read_records
from mono_quant.plugin_api.artifact import Artifact
from mono_quant.plugin_api.format import ProgramFormat
from mono_quant.plugin_api.source import Batch

__all__ = ["TorchExportFormat"]


class TorchExportFormat(ProgramFormat):
    """What ``torch.export.save`` writes, the manifest in the extra file ``mono_quant.json``.

    The codes stay codes: the program makes floats of them when it runs. It gives what the reference kernels give, bit
    for bit where inputs are quantized, to float rounding where only weights are. Of the example, nothing but its shapes
    and dtypes goes into the file, and nothing of where the code of the model lies.
    """

    def can_store(self, artifact: Artifact) -> list[str]:
        """Plain tensors."""
        return why_not_stored(artifact.tensors)

    def save_program(self, model: nn.Module, example: Batch, artifact: Artifact, path: Path) -> None:
        """Export and write."""
        extra = {} if artifact.manifest is None else {MANIFEST_FILE: dump_object(artifact.manifest)}
        program = _program(model, example)
        with replacing(path) as temporary:
            # An open file, because of a path torch writes the random name into the file.
            with temporary.open("wb") as file, warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="No complete tensor found in the group")  # it is on the CPU
                try:
                    torch.export.save(program, file, extra_files=extra)
                except OSError:
                    raise
                except Exception as error:  # of torch, for what it can export and not write
                    raise ArtifactError(f"{path} cannot be written by torch.export: {in_a_line(error)}") from error
            with opened(temporary) as (written, size):
                read_records(written, size)  # what is written can be read again

    def load(self, path: Path) -> Artifact:
        """The tensors and the manifest, without the program."""
        return read_pt2(path)

    def load_program(self, path: Path) -> nn.Module:
        """The program as a module.

        A program is code, and torch reads it with pickle: load none from strangers.
        """
        try:
            with opened(path) as (file, size):
                read_records(file, size)
                file.seek(0)
                module = torch.export.load(file).module()
        except Exception as error:  # torch raises anything on a damaged file
            raise ArtifactError(f"{path} cannot be read as a program of torch.export: {in_a_line(error)}") from error
        for name in ("train", "eval"):  # torch's refuse; the program is one for inference, whatever is called
            vars(module).pop(name, None)
        return module.requires_grad_(requires_grad=False).eval()


def _program(model: nn.Module, example: Batch) -> ExportedProgram:
    """The model exported, each memory in it no larger than its tensor.

    Raises:
        ArtifactError: with torch's reason, when it cannot be.
    """
    try:
        program = exported(model, example)
    except Exception as error:  # any model, and torch's own many kinds
        raise ArtifactError(
            f"{type(model).__name__} cannot be exported by torch.export, called with {describe(example)}: "
            f"{in_a_line(error)}. Save it as .safetensors, which needs no export, or change its forward: no step may "
            "depend on the values of tensors"
        ) from error
    if not _looks_into_memory(program):
        for tensors in (program.state_dict, program.constants):
            tensors.update(_alone({name: one for name, one in tensors.items() if isinstance(one, Tensor)}))
    tidy(program)
    return program


def _looks_into_memory(program: ExportedProgram) -> bool:
    """Whether it writes into tensors, which others may be views of, or reads more of a memory than its tensor."""
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, GraphModule) else ():
            schema = getattr(node.target, "_schema", None)
            if schema is not None and (schema.is_mutable or "as_strided" in schema.name):
                return True
    return bool(program.graph_signature.buffers_to_mutate)


def _alone(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor with memory of its own size, shared ones still shared: torch writes all of a memory."""
    made: dict[object, Tensor] = {}

    def alone(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().nbytes() == tensor.nbytes:
            return tensor
        place = tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype
        copied = made.setdefault(place, tensor.detach().clone())
        return nn.Parameter(copied, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copied

    return {name: alone(tensor) for name, tensor in tensors.items()}
