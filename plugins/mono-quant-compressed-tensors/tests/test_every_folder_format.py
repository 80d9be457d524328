"""What every format of folders promises."""

from mono_quant.testing import FolderFormatSuite

from mono_quant_compressed_tensors import CompressedTensorsFormat


class TestCompressedTensors(FolderFormatSuite):
    name = "compressed-tensors"

    def make(self):
        return CompressedTensorsFormat()


class TestForBothReaders(FolderFormatSuite):
    name = "compressed-tensors"
    kills = 0

    def make(self):
        return CompressedTensorsFormat(readers=("transformers", "vllm"))
