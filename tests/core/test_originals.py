"""What is written into tensors through torch is seen before, and put back bit for bit."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mono_quant.core.originals import Originals, Writes


def tripled(x: Tensor) -> Tensor:
    return x.mul_(3)


def scripted(x: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.jit, which some versions of torch deprecate
        torch.jit.script(tripled)(x)


@torch.inference_mode()
def without_versions(x: Tensor) -> None:
    x.add_(1)


def other_memory(x: Tensor) -> None:
    x.data = torch.zeros(7, 3)
    x.add_(5)


WRITES: dict[str, Callable[[Tensor], object]] = {
    "in place": lambda x: x.add_(1),
    "data": lambda x: x.data.add_(1),
    "detached": lambda x: x.detach().zero_(),
    "item": lambda x: x.__setitem__((0, 1), 7.0),
    "slice": lambda x: x[1:2].copy_(torch.ones(3)),
    "transposed view": lambda x: x.t()[1].fill_(9),
    "out": lambda x: torch.mul(torch.ones(4, 3), 2, out=x),
    "list of tensors": lambda x: torch._foreach_add_([x], 1),
    "batch norm": lambda x: functional.batch_norm(torch.randn(5, 3), x[0], x[1], training=True),
    "renormalisation": lambda x: functional.embedding(torch.tensor([0, 2]), x, max_norm=0.1),
    "scripted": scripted,
    "inference mode": without_versions,
    "other memory": other_memory,
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
@pytest.mark.parametrize(
    "make", [lambda: torch.randn(4, 3), lambda: nn.Parameter(torch.randn(4, 3))], ids=["buffer", "parameter"]
)
def test_a_write_is_undone_bit_for_bit_as_often_as_it_happens(
    write: Callable[[Tensor], object], make: Callable[[], Tensor]
):
    tensor = make()
    before = tensor.detach().clone()
    originals = Originals({"tensor": tensor})
    with torch.no_grad():
        with Writes(originals):
            write(tensor)
        assert not torch.equal(tensor, before)
        assert originals.restore() == []
        assert torch.equal(tensor, before)
        write(tensor)
        assert originals.restore() == []
    assert torch.equal(tensor, before)


def test_only_what_is_written_is_copied():
    memory = torch.zeros(6)
    first, second, alone = memory[:3], memory[3:], torch.zeros(3)
    originals = Originals({"first": first, "second": second, "alone": alone})
    with Writes(originals):
        first.add_(alone)
    assert [saved.shape for _, saved in originals._saved.values()] == [(3,)]
    assert originals.restore() == []
    assert not memory.any()


@pytest.mark.parametrize("view", [lambda m: m.expand(4, 6), lambda m: m[::2], lambda m: m.view(2, 3).t()])
def test_views_of_one_memory_are_put_back_whatever_their_strides(view: Callable[[Tensor], Tensor]):
    memory = torch.arange(6.0)
    originals = Originals({"view": view(memory), "memory": memory})
    with Writes(originals):
        memory.mul_(2)
        memory[1:].add_(1)
    originals.restore()
    assert memory.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_tensor_of_inference_mode_is_put_back():
    with torch.inference_mode():
        tensor = torch.ones(3)
    originals = Originals({"tensor": tensor})
    with Writes(originals):
        without_versions(tensor)
    originals.restore()
    assert tensor.tolist() == [1, 1, 1]


def test_what_nothing_wrote_is_not_touched():
    tensor = torch.ones(3)
    originals = Originals({"tensor": tensor})
    with Writes(originals):
        functional.batch_norm(torch.randn(5, 3), tensor, tensor, training=False)
    originals.restore()
    assert tensor._version == 0


def test_a_write_that_was_not_seen_is_named():
    first, second = torch.zeros(3), torch.zeros(3)
    originals = Originals({"first": first, "second": second})
    second.add_(1)
    assert originals.restore() == ["second"]


def test_tensors_that_are_not_plain_memory_are_left_out():
    tensors = {
        "sparse": torch.eye(3).to_sparse(),
        "meta": torch.empty(3, device="meta"),
        "lazy": nn.LazyLinear(3).weight,
        "empty": torch.empty(0),
    }
    originals = Originals(tensors)
    with Writes(originals):
        tensors["sparse"].mul_(2)
        tensors["meta"].mul_(2)
    assert originals.restore() == []
    assert tensors["sparse"].sum() == 6
