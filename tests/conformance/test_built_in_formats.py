"""The same for formats."""

import json
from pathlib import Path

from safetensors.torch import save_file

from mono_quant.io.pytorch_format import PytorchFormat
from mono_quant.io.safetensors_format import SafetensorsFormat
from mono_quant.io.sharded_format import ShardedSafetensorsFormat
from mono_quant.io.torch_export_format import TorchExportFormat
from mono_quant.plugin_api import Artifact
from mono_quant.testing import FormatSuite, ProgramFormatSuite


class TestSafetensors(FormatSuite):
    suffix = ".safetensors"

    def make(self) -> SafetensorsFormat:
        return SafetensorsFormat()


class TestPytorch(FormatSuite):
    suffix = ".pt"

    def make(self) -> PytorchFormat:
        return PytorchFormat()


class TestShardedSafetensors(FormatSuite):
    """It reads what checkpoints are written as, each tensor in one of two files."""

    suffix = ".safetensors.index.json"
    writes = False

    def make(self) -> ShardedSafetensorsFormat:
        return ShardedSafetensorsFormat()

    def example(self, artifact: Artifact, path: Path) -> None:
        metadata = {} if artifact.manifest is None else {"mono_quant": json.dumps(artifact.manifest)}
        files = {name: f"shard-{number % 2}.safetensors" for number, name in enumerate(artifact.tensors)}
        for file in set(files.values()):
            tensors = {name: tensor.clone() for name, tensor in artifact.tensors.items() if files[name] == file}
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path.with_name(file), metadata)
        path.write_text(json.dumps({"metadata": {}, "weight_map": files}))


class TestTorchExport(ProgramFormatSuite):
    suffix = ".pt2"
    least_db = 130.0

    def make(self) -> TorchExportFormat:
        return TorchExportFormat()
