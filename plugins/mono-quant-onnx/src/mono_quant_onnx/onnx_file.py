"""Writing a graph, and its tensors beside it, so that at every moment the path is an old or a whole new model."""

import hashlib
import re
import tempfile
from pathlib import Path

import onnx
import onnx_ir as ir
from mono_quant.plugin_api import replacing

from mono_quant_onnx.graph import refuse_what_is_not_standard

__all__ = ["write_graph"]


def write_graph(model: ir.Model, path: Path, external_data: int) -> None:
    """Write it.

    A file of tensors is named for what is in it, ``<name>.<digest>.data``: it stands there whole before the graph that
    names it takes the place of an older one, whose own file is removed after that. So a reader at any moment finds a
    graph with its tensors.

    Args:
        model: the graph; what is only of its maker is taken out.
        path: of the graph.
        external_data: bytes of tensors from which on they are a file of their own.

    Raises:
        ArtifactError: when it cannot be written.
        CompilationError: when it is no standard ONNX.
    """
    _tidy(model)
    old = _data_files(path)
    data = _data_file(model, path) if _size(model) >= external_data else None
    try:
        with (
            replacing(path) as temporary,
            tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp") as made,
        ):
            graph = Path(made) / path.name
            ir.save(model, graph, format="protobuf", external_data=None if data is None else data.name)
            refuse_what_is_not_standard(graph)
            if data is not None and (Path(made) / data.name).exists():
                with replacing(data) as temporary_data:
                    (Path(made) / data.name).replace(temporary_data)
            graph.replace(temporary)
    except BaseException:
        if data is not None and data not in old:
            data.unlink(missing_ok=True)
        raise
    for file in old - {data}:
        file.unlink(missing_ok=True)


def _size(model: ir.Model) -> int:
    return sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)


def _data_file(model: ir.Model, path: Path) -> Path:
    digest = hashlib.sha256()
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            digest.update(value.const_value.tobytes())
    return path.with_name(f"{path.name}.{digest.hexdigest()[:16]}.data")


def _data_files(path: Path) -> set[Path]:
    """The files of tensors of the graph that is at a path now, those that were named here."""
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception:  # noqa: BLE001 - whatever is there is no graph with files of ours
        return set()
    own = re.compile(re.escape(path.name) + r"\.[0-9a-f]{16}\.data")
    places = {entry.value for one in graph.initializer for entry in one.external_data if entry.key == "location"}
    return {path.with_name(place) for place in places if own.fullmatch(place)}


def _tidy(model: ir.Model) -> None:
    """Take out what ``torch.onnx`` notes of the model's code: it may hold paths, and readers have no use for it."""
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
