"""Checkpoints that torchao and optimum-quanto really write: converted, loaded, and compared with their own weights.

    pip install torchao optimum-quanto
    python -m tests.bench.foreign_checkpoints

Prints a line for each, and exits with 1 when a weight differs. Nothing is timed.
"""

import copy
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mono_quant import Quantizer, convert
from mono_quant.errors import ArtifactError

__all__ = ["main"]


class Net(nn.Module):
    """Two matrices, a kernel, a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm, self.conv, self.head = (
            nn.Linear(128, 64),
            nn.LayerNorm(64),
            nn.Conv2d(3, 4, 3),
            nn.Linear(64, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.fc(x)).relu())


@attrs.frozen(eq=False)
class Made:
    """A checkpoint of others.

    Args:
        name: what made it, and how.
        write: writes it into a folder; gives the path to convert.
        weights: the float weights that it stands for, by name, as its own maker dequantizes them.
        output: of its own model on `example`.
    """

    name: str
    write: Callable[[Path], Path]
    weights: dict[str, Tensor]
    output: Tensor


def net(dtype: torch.dtype) -> nn.Module:
    """The same model at every call."""
    torch.manual_seed(0)
    return Net().to(dtype).eval()


def example(dtype: torch.dtype) -> Tensor:
    """An input."""
    return torch.randn(5, 128, generator=torch.Generator().manual_seed(1)).to(dtype)


def of_torchao(dtype: torch.dtype) -> Iterator[Made]:
    """What torchao makes of the linear layers."""
    from torchao import quantization as ao  # noqa: PLC0415 - not in every environment
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict  # noqa: PLC0415

    groups = ao.PerGroup(32)
    configs = {
        "Int8WeightOnly": ao.Int8WeightOnlyConfig(version=2),
        "Int8WeightOnly, groups": ao.Int8WeightOnlyConfig(version=2, granularity=groups),
        "Int8WeightOnly, per tensor": ao.Int8WeightOnlyConfig(version=2, granularity=ao.PerTensor()),
        "Int8DynamicActivation": ao.Int8DynamicActivationInt8WeightConfig(version=2),
        "Float8WeightOnly": ao.Float8WeightOnlyConfig(),
        **{
            f"IntxWeightOnly int{bits} {mapping.name.lower()}": ao.IntxWeightOnlyConfig(
                weight_dtype=getattr(torch, f"int{bits}"), granularity=grain, mapping_type=mapping
            )
            for bits, grain in ((2, groups), (3, groups), (4, groups), (5, groups), (7, groups), (8, ao.PerAxis(0)))
            for mapping in (ao.MappingType.SYMMETRIC, ao.MappingType.ASYMMETRIC)
        },
    }
    for name, config in configs.items():
        model = net(dtype)
        ao.quantize_(model, config)
        flat, metadata = flatten_tensor_state_dict({key: tensor.data for key, tensor in model.state_dict().items()})

        def write(folder: Path, flat: dict[str, Tensor] = flat, metadata: dict[str, str] = metadata) -> Path:
            save_file(
                {key: tensor.contiguous() for key, tensor in flat.items()}, folder / "theirs.safetensors", metadata
            )
            return folder / "theirs.safetensors"

        weights = {layer: model.get_submodule(layer).weight.dequantize() for layer in ("fc", "head")}
        yield Made(f"torchao {name} {dtype}", write, weights, model(example(dtype)))


def of_quanto(dtype: torch.dtype) -> Iterator[Made]:
    """What optimum-quanto makes of the linear layers and the kernel."""
    from optimum import quanto  # noqa: PLC0415

    for weights, activations in (("qint8", None), ("qfloat8", None), ("qint4", None), ("qint8", "qint8")):
        model = net(dtype)
        quanto.quantize(model, weights=weights, activations=activations)
        quanto.freeze(model)

        def write(folder: Path, model: nn.Module = model) -> Path:
            save_file(model.state_dict(), folder / "model.safetensors")
            (folder / "quantization_map.json").write_text(json.dumps(quanto.quantization_map(model)))
            return folder

        found = {layer: model.get_submodule(layer).weight.dequantize() for layer in ("fc", "conv", "head")}
        yield Made(f"optimum-quanto {weights}, activations {activations} {dtype}", write, found, model(example(dtype)))


def compare(made: Made, folder: Path, dtype: torch.dtype) -> tuple[str, bool]:
    """What came of it, and whether that is as it should be."""
    path = made.write(folder)
    try:
        convert(path, folder / "ours.safetensors")
    except ArtifactError as error:
        return f"refused: {str(error).splitlines()[1].strip()[:100]}", not (folder / "ours.safetensors").exists()
    loaded = Quantizer(kernel="reference").load(folder / "ours.safetensors", lambda: copy.deepcopy(net(dtype)))
    exact, largest = True, 0.0
    for layer, weight in made.weights.items():
        ours = loaded.get_submodule(layer).dequantized("weight").to(weight.dtype)
        exact &= bool(torch.equal(ours, weight.detach()))
        largest = max(largest, float(((ours - weight).abs() / weight.abs().clamp(min=1e-9)).max()))
    off = float((loaded(example(dtype)) - made.output).abs().max() / made.output.abs().max())
    rounding = 0.0 if dtype == torch.float32 else 2.0**-7
    words = "the same weights" if exact else f"weights off by {largest:.1e} of themselves"
    return f"{words}; output off by {off:.1e}", largest <= rounding


def main() -> int:
    """Compare all of them."""
    is_well = True
    torch.set_grad_enabled(False)
    for dtype in (torch.float32, torch.bfloat16):
        for maker in (of_torchao, of_quanto):
            for made in maker(dtype):
                with tempfile.TemporaryDirectory() as folder:
                    words, is_right = compare(made, Path(folder), dtype)
                is_well &= is_right
                sys.stdout.write(f"{'ok ' if is_right else 'BAD'} {made.name}: {words}\n")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
