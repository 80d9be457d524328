"""Formats of programs with one bug each."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mono_quant.io.torch_export_format import TorchExportFormat
from mono_quant.plugin_api import Artifact, Batch, ProgramFormat
from mono_quant.testing import ProgramFormatSuite

FINDS: dict[type[ProgramFormatSuite], str] = {}


def planted(test: str, **declared: Any) -> Any:
    def wrap(made: type[ProgramFormat]) -> type[ProgramFormat]:
        def models(self: ProgramFormatSuite) -> Any:
            return {"signals": ProgramFormatSuite.models(self)["signals"]}

        body = {"suffix": ".pt2", "make": lambda _: made(), "models": models, **declared}
        suite = type(f"TestProgram{made.__name__}", (ProgramFormatSuite,), body)
        suite.__module__ = __name__
        globals()[suite.__name__] = suite
        FINDS[suite] = test
        return made

    return wrap


@planted("")
class Right(TorchExportFormat):
    pass


@planted("test_the_same_model_gives_the_same_bytes")
class WritesTheTime(TorchExportFormat):
    def save_program(self, model: nn.Module, example: Batch, artifact: Artifact, path: Path) -> None:
        timed = Artifact(artifact.tensors, {**(artifact.manifest or {}), "time": time.time_ns()})
        super().save_program(model, example, timed, path)


@planted("test_no_numbers_of_the_example_are_in_the_file")
class KeepsTheExample(TorchExportFormat):
    def save_program(self, model: nn.Module, example: Batch, artifact: Artifact, path: Path) -> None:
        super().save_program(model, example, artifact, path)
        path.with_suffix(".example").write_bytes(example.args[0].numpy().tobytes())


@planted("test_neither_the_model_nor_the_example_is_changed")
class LeavesItInTraining(TorchExportFormat):
    def save_program(self, model: nn.Module, example: Batch, artifact: Artifact, path: Path) -> None:
        super().save_program(model, example, artifact, path)
        model.train()


@planted("test_a_batch_of_another_size_runs")
class TakesOneSize(TorchExportFormat):
    def load_program(self, path: Path) -> nn.Module:
        program = super().load_program(path)
        rows: list[int] = []

        class Once(nn.Module):
            def forward(self, x: torch.Tensor) -> Any:
                rows.append(len(x))
                if len(x) != rows[0]:
                    raise ValueError(len(x))
                return program(x)

        return Once()


@planted("test_a_model_that_cannot_become_a_program_is_refused_without_harm")
class BeginsByWriting(TorchExportFormat):
    def save_program(self, model: nn.Module, example: Batch, artifact: Artifact, path: Path) -> None:
        path.write_bytes(b"")
        super().save_program(model, example, artifact, path)


@planted("test_programs_give_what_the_reference_kernels_give")
class IsOff(TorchExportFormat):
    def load_program(self, path: Path) -> nn.Module:
        program = super().load_program(path)

        class Off(nn.Module):
            def forward(self, x: torch.Tensor) -> Any:
                return program(x) * 1.001

        return Off()
