"""BatchNorm goes into the layer before it only where that keeps the function of the model."""

from collections.abc import Callable

import pytest
import torch
from small_models import ConvNet, images, norm, quantize, run, sqnr
from torch import Tensor, nn

Change = Callable[["Foldable"], object]


class Foldable(nn.Module):
    """Convolution, BatchNorm, ReLU; ``body(model, x)`` may use them otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.bn = norm(nn.BatchNorm2d(6))
        self.body = lambda model, x: model.bn(model.conv(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x).relu()


def folded(model: nn.Module) -> dict[str, str]:
    """What was folded, after checking that the quantized model still computes the function of the float one."""
    data = images()
    result = quantize(model, data, validators=())
    assert sqnr(run(model, data[0]), run(result.model, data[0])) > 25
    return dict(result.info.folded_layers)


def with_body(body: Callable[[Foldable, Tensor], Tensor]) -> Change:
    def change(model: Foldable) -> None:
        model.body = body

    return change


def in_a_residual(model: Foldable, x: Tensor) -> Tensor:
    y = model.conv(x)
    return model.bn(y) + y


def in_a_vmap(model: Foldable, x: Tensor) -> Tensor:
    y = model.conv(x)
    return model.bn(y) + torch.vmap(double)(y)


def with_a_look(model: Foldable, x: Tensor) -> Tensor:
    y = model.conv(x)
    return model.bn(y) * y.shape[1] / len(y)


def double(y: Tensor) -> Tensor:
    return y * 2


def instance_forward(model: Foldable) -> None:
    model.bn.forward = double


def shared_norm(model: Foldable) -> None:
    model.again = model.bn


def tied_weight(model: Foldable) -> None:
    model.twin = nn.Conv2d(3, 6, 3)
    model.twin.weight = model.conv.weight
    model.body = lambda model, x: model.bn(model.conv(x)) + model.twin(x)


def batch_statistics(model: Foldable) -> None:
    model.bn = nn.BatchNorm2d(6, track_running_stats=False)


NOT_FOLDED: dict[str, Change] = {
    "the convolution is added again": with_body(in_a_residual),
    "the convolution runs twice": with_body(lambda m, x: m.bn(m.conv(x)) + m.conv(-x)),
    "the BatchNorm runs twice": with_body(lambda m, x: m.bn(m.bn(m.conv(x)))),
    "the BatchNorm also runs elsewhere": with_body(lambda m, x: m.bn(m.conv(x)) + m.bn(m.conv(x).relu())),
    "something is between them": with_body(lambda m, x: m.bn(m.conv(x) * 2)),
    "vmap reads the convolution": with_body(in_a_vmap),
    "the BatchNorm's weight is read": with_body(lambda m, x: m.bn(m.conv(x)) * m.bn.weight.abs().sum()),
    "the BatchNorm has two names": shared_norm,
    "the weight is tied": tied_weight,
    "the BatchNorm uses the statistics of the batch": batch_statistics,
    "the BatchNorm has a forward of its own": instance_forward,
    "a hook changes the convolution's output": lambda m: m.conv.register_forward_hook(lambda _, __, y: y * 2),
    "a hook changes the BatchNorm's input": lambda m: m.bn.register_forward_pre_hook(lambda _, args: (args[0] * 2,)),
    "a hook changes the BatchNorm's output": lambda m: m.bn.register_forward_hook(lambda _, __, y: y * 2),
}


def test_a_batch_norm_that_alone_follows_its_convolution_is_folded():
    assert folded(Foldable()) == {"bn": "conv"}


@pytest.mark.parametrize("change", NOT_FOLDED.values(), ids=NOT_FOLDED.keys())
def test_it_is_not_folded_when(change: Change):
    model = Foldable()
    change(model)
    assert folded(model) == {}


def test_it_is_not_folded_when_one_batch_flows_otherwise():
    model = Foldable()
    model.body = lambda m, x: m.bn(m.conv(x)) if x.shape[0] == 4 else m.bn(m.conv(x).relu())
    data = images()
    result = quantize(model, [*data, data[0][:3]], validators=())
    assert result.info.folded_layers == {}


def test_looking_at_the_shape_does_not_prevent_folding():
    model = Foldable()
    model.body = with_a_look
    assert folded(model) == {"bn": "conv"}


@pytest.mark.parametrize(
    ("layer", "features", "shape"),
    [
        (nn.Linear(5, 8), 8, (4, 8, 5)),
        (nn.Linear(5, 8), 6, (4, 6, 5)),
        (nn.Conv1d(5, 8, 1), 8, (5, 8)),
        (nn.Conv1d(5, 8, 1), 7, (5, 7)),
    ],
    ids=["sequence of as many steps", "sequence", "unbatched of as many steps", "unbatched"],
)
def test_it_is_not_folded_where_its_channels_are_another_axis_than_the_rows_of_the_weight(
    layer: nn.Module, features: int, shape: tuple[int, ...]
):
    model = nn.Sequential(layer, norm(nn.BatchNorm1d(features)))
    data = [torch.randn(shape) for _ in range(3)]
    result = quantize(model, data, validators=())
    assert result.info.folded_layers == {}
    assert sqnr(run(model, data[0]), run(result.model, data[0])) > 25


def test_without_algorithms_nothing_is_folded():
    result = quantize(ConvNet(), images(), algorithms=())
    assert result.info.folded_layers == {}
    assert result.info.skipped_layers == {"bn": "int8-static does not quantize BatchNorm2d"}
    assert isinstance(result.model.bn, nn.BatchNorm2d)


def test_a_folded_batch_norm_is_an_identity_and_takes_no_bytes():
    result = quantize(ConvNet(), images())
    assert isinstance(result.model.bn, nn.Identity)
    assert {entry.name: entry.bytes_after for entry in result.plan.entries}["bn"] == 0


def test_a_folded_convolution_is_pair_of_the_float_one_in_the_weight_sqnr():
    assert quantize(ConvNet(), images()).validation.layer_sqnr_db["conv"] > 25


def test_every_batch_norm_of_a_residual_network_is_folded():
    class Block(nn.Module):
        def __init__(self, channels: int, out: int) -> None:
            super().__init__()
            self.first, self.norm1 = nn.Conv2d(channels, out, 3, 2, 1), norm(nn.BatchNorm2d(out))
            self.second, self.norm2 = nn.Conv2d(out, out, 3, 1, 1), norm(nn.BatchNorm2d(out))
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, 2), norm(nn.BatchNorm2d(out)))
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            y = self.relu(self.norm1(self.first(x)))
            y = self.norm2(self.second(y))
            y += self.shortcut(x)
            return self.relu(y)

    into = {"norm1": "first", "norm2": "second", "shortcut.1": "shortcut.0"}
    expected = {f"{block}.{name}": f"{block}.{conv}" for block in (0, 1) for name, conv in into.items()}
    assert folded(nn.Sequential(Block(3, 6), Block(6, 8))) == expected
