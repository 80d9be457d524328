"""A safetensors file is mapped into memory: nothing is copied, and what is written to the model stays out of it."""

from pathlib import Path

import torch
from everything import Everything, same_bits
from small_models import quantize, run
from torch import Tensor, nn

from mono_quant import QuantizationResult, Quantizer, load_model, save_model

MAPPINGS = Path("/proc/self/maps")


def mapped_ranges(path: Path) -> list[range]:
    """The addresses at which this process has mapped a file, as the kernel tells them."""
    lines = [line.split() for line in MAPPINGS.read_text().splitlines() if line.endswith(str(path.resolve()))]
    return [range(*(int(end, 16) for end in line[0].split("-"))) for line in lines]


def is_mapped(tensor: Tensor, path: Path) -> bool:
    return any(tensor.data_ptr() in addresses for addresses in mapped_ranges(path))


def test_every_tensor_of_a_loaded_model_lies_in_the_mapped_file(result: QuantizationResult, tmp_path: Path):
    path = tmp_path / "model.safetensors"
    result.save(path)
    loaded = Quantizer().load(path, Everything)
    tensors = [tensor for tensor in loaded.state_dict().values() if tensor.numel()]
    assert tensors
    assert all(is_mapped(tensor, path) for tensor in tensors)


def test_a_large_model_is_loaded_without_memory_of_its_size(tmp_path: Path):
    path = tmp_path / "large.safetensors"
    save_model({"x": torch.ones(2_000_000), "y": torch.zeros(2_000_000, dtype=torch.int8)}, path)
    state = load_model(path)
    assert all(is_mapped(tensor, path) for tensor in state.values())


def test_writing_into_a_loaded_model_does_not_reach_the_file(result: QuantizationResult, tmp_path: Path):
    path = tmp_path / "model.safetensors"
    result.save(path)
    content = path.read_bytes()
    loaded = Quantizer().load(path, Everything)
    for tensor in loaded.state_dict().values():
        tensor.fill_(1)
    assert path.read_bytes() == content


def test_a_model_keeps_working_when_its_file_is_replaced_or_removed(tmp_path: Path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64))
    data = [torch.randn(4, 64)]
    path = tmp_path / "model.safetensors"
    quantize(model, data, kernel="reference").save(path)
    loaded = Quantizer(kernel="reference").load(path, model)
    expected = run(Quantizer(kernel="reference").load(path, model), data[0])
    save_model({"other": torch.zeros(3)}, path)
    path.unlink()
    assert same_bits(run(loaded, data[0]), expected)


def test_a_loaded_model_is_saved_over_its_own_file(result: QuantizationResult, tmp_path: Path):
    path = tmp_path / "model.safetensors"
    result.save(path)
    content = path.read_bytes()
    save_model(Quantizer().load(path, Everything), path)
    assert path.read_bytes() == content
