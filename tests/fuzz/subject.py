"""A small model with much in it, and good files of it."""

from collections.abc import Callable
from pathlib import Path

import attrs
import torch
from torch import Tensor, nn

from mono_quant import Quantizer, save_model

FEATURES = 8
SHORT = "short"
"""Name of the layer in half precision."""
QUANTIZER = {
    "kernel": "fbgemm",
    "show_progress": False,
    "overrides": {
        "packed": {"scheme": {"name": "int4-weight-only", "group_size": 4, "symmetric": False}},
        SHORT: {"scheme": "float16"},
        "small": {"scheme": "float8-weight-only"},
        "cell": {"scheme": "int8-weight-only"},
    },
}


class Subject(nn.Module):
    """A fold, ties, five schemes, a recurrent layer, buffers of odd dtypes and of no size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 4, 3, padding=1)
        self.bn = nn.BatchNorm1d(4)
        self.up, self.down, self.packed, self.short, self.small = (nn.Linear(FEATURES, FEATURES) for _ in range(5))
        self.down.weight = self.up.weight
        self.cell = nn.LSTM(FEATURES, 4)
        self.table = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.table.weight
        self.register_buffer("halves", torch.ones(3, dtype=torch.float16))
        self.register_buffer("flags", torch.tensor([True, False]))
        self.register_buffer("count", torch.tensor(7))
        self.register_buffer("empty", torch.empty(0, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(self.up(self.bn(self.conv(x))).relu())
        return self.head(self.cell(self.small(self.short(self.packed(x))))[0])


@attrs.frozen
class Good:
    """A file that loads.

    Args:
        name: what it is called in reports.
        suffix: of its format.
        content: its bytes.
        is_model: whether it is that of a quantized model.
    """

    name: str
    suffix: str
    content: bytes
    is_model: bool


def make_good(folder: Path) -> list[Good]:
    """Files of the quantized model, of float ones, and as torch wrote them before 1.6; the same in every run."""
    torch.manual_seed(0)
    subject = Subject().eval()
    quantized = Quantizer(**QUANTIZER).quantize(subject, [torch.randn(3, 2, FEATURES) for _ in range(2)]).model
    state = {name: tensor.clone() for name, tensor in subject.state_dict().items()}
    writers: dict[str, tuple[str, Callable[[Path], object], bool]] = {
        "quantized": (".safetensors", lambda path: save_model(quantized, path), True),
        "quantized, by torch": (".pt", lambda path: save_model(quantized, path), True),
        "float with ties": (".safetensors", lambda path: save_model(subject, path), False),
        "a state_dict, by torch": (".pt", lambda path: torch.save(state, path), False),
        "a state_dict, by torch before 1.6": (
            ".pt", lambda path: torch.save(state, path, _use_new_zipfile_serialization=False), False
        ),
    }  # fmt: skip
    good = []
    for name, (suffix, save, is_model) in writers.items():
        path = folder / f"good{suffix}"
        save(path)
        good.append(Good(name, suffix, path.read_bytes(), is_model))
        path.unlink()
    return good
