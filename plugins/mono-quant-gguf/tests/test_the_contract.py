"""What every format promises."""

from mono_quant.testing import FormatSuite

from mono_quant_gguf import GGUFFormat


class TestGGUF(FormatSuite):
    suffix = ".gguf"
    kills = 8

    def make(self):
        return GGUFFormat()
