"""The packed weights of one module: chosen once a size, shared between sizes, safe with threads."""

import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from fake_quantization import KERNELS, assert_right, quantized, random_input
from torch import Tensor, nn

from mono_quant.core.tensors import versions
from mono_quant.errors import ConfigurationError
from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.modules import engine
from mono_quant.modules.engine import Engine
from mono_quant.plugin_api.kernel import Kernel, QuantizedOp, Support


class Counting(Kernel):
    """The reference; counts how often it is asked and what it packs of layers with eight inputs, and takes its time."""

    def __init__(self) -> None:
        self.asked = 0
        self.packed = 0

    def supports(self, op: QuantizedOp, device: torch.device) -> Support:
        self.asked += 1
        return ReferenceKernel().supports(op, device)

    def pack(self, op: QuantizedOp) -> Callable[[Tensor], Tensor]:
        time.sleep(0.02)
        is_verified = bool(op.weight_scale[0] == torch.tensor(0.001))  # as the small layers of the verification have it
        self.packed += op.weight.shape[-1] == 8 and not is_verified
        return ReferenceKernel().pack(op)


def eight_inputs() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(8, 5)


class SlowFor(Kernel):
    """The reference; sleeps so long over some numbers of rows that it is not taken for the faster one there."""

    def __init__(self, is_slow: Callable[[int], bool]) -> None:
        self.is_slow = is_slow
        self.last_rows = 0

    def supports(self, op: QuantizedOp, device: torch.device) -> Support:
        return ReferenceKernel().supports(op, device)

    def pack(self, op: QuantizedOp) -> Callable[[Tensor], Tensor]:
        run = ReferenceKernel().pack(op)

        def sleeping(x: Tensor) -> Tensor:
            self.last_rows = len(x)
            time.sleep(0.02 * self.is_slow(len(x)))
            return run(x)

        return sleeping


def at_once(run: Callable[[], Tensor], threads: int = 8) -> list[Tensor]:
    """What ``run`` gives in threads that all start together."""
    barrier = threading.Barrier(threads)

    def started() -> Tensor:
        barrier.wait()
        return run()

    with ThreadPoolExecutor(threads) as pool:
        return [future.result() for future in [pool.submit(started) for _ in range(threads)]]


@pytest.mark.parametrize("kernel", ["auto", "fbgemm", "onednn", "reference"])
@pytest.mark.parametrize("make", [eight_inputs, lambda: nn.Conv2d(3, 8, 3)], ids=["linear", "conv2d"])
def test_eight_threads_may_make_the_first_call_together(make: Callable[[], nn.Module], kernel: str):
    layer = make()
    module = quantized(layer, kernel=kernel)
    x = random_input(module, 4, *layer.weight.shape[1:])
    for _ in range(5):
        module.repack()
        for y in at_once(lambda: module(x)):
            assert_right(module, layer, x, run=lambda _, y=y: y)


def test_threads_that_come_first_together_pack_once():
    kernel, module = Counting(), quantized(eight_inputs())
    module.use_kernels((("counting", kernel),))
    at_once(lambda: module(torch.zeros(4, 8)))
    assert kernel.packed == 1


def test_threads_may_run_while_others_repack():
    layer = eight_inputs()
    module = quantized(layer)
    x = random_input(module, 4, 8)

    def run() -> Tensor:
        for _ in range(20):
            module.repack()
            y = module(x)
        return y

    for y in at_once(run):
        assert_right(module, layer, x, run=lambda _, y=y: y)


def test_it_chooses_and_packs_once_for_all_calls_of_one_size():
    kernel, module = Counting(), quantized(eight_inputs())
    module.use_kernels((("counting", kernel),))
    for _ in range(3):
        module(torch.zeros(4, 8))
    assert (kernel.asked, kernel.packed) == (1, 1)


@pytest.mark.parametrize("kernel", ["auto", "fbgemm", "onednn"])
def test_every_size_gives_right_results(kernel: str):
    layer = eight_inputs()
    module = quantized(layer, kernel=kernel)
    for rows in (1, 2, 3, 4, 7, 8, 9, 64, 300, 1, 1000):
        assert_right(module, layer, random_input(module, rows, 8))


def test_another_size_may_have_another_kernel():
    few, many = SlowFor(lambda rows: rows > 10), SlowFor(lambda rows: rows <= 10)
    module = quantized(eight_inputs())
    module.use_kernels((("few", few), ("many", many)))
    module(torch.zeros(2, 8))
    module(torch.zeros(500, 8))
    assert module.engine.chosen == ("few", "many")
    module(torch.zeros(3, 8))
    module(torch.zeros(510, 8))
    assert (few.last_rows, many.last_rows) == (3, 510)


def test_it_says_what_it_chose():
    module = quantized(eight_inputs(), kernel="onednn")
    assert module.engine.chosen == ()
    module(torch.zeros(4, 8))
    module(torch.zeros(400, 8))
    assert module.engine.chosen == ("onednn",)
    module.repack()
    assert module.engine.chosen == ()


def test_a_new_choice_of_kernels_counts_from_the_next_call():
    module = quantized(eight_inputs(), kernel="onednn")
    module(torch.zeros(4, 8))
    module.use_kernels(KERNELS, "fbgemm")
    module(torch.zeros(4, 8))
    assert module.engine.chosen == ("fbgemm",)


def test_by_itself_it_has_the_reference():
    assert [name for name, _ in Engine().kernels] == ["reference"]


def test_a_failed_choice_leaves_it_able_to_choose_again():
    module = quantized(eight_inputs())
    module.use_kernels(())
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="none is registered"):
            module(torch.zeros(4, 8))


def test_a_pickled_engine_holds_names_and_kernels_only():
    packed = quantized(eight_inputs(), kernel="fbgemm").engine
    again = pickle.loads(pickle.dumps(packed))  # noqa: S301 - our own bytes
    assert {name: type(kernel) for name, kernel in again.kernels} == {name: type(k) for name, k in KERNELS}
    assert again.wanted == "fbgemm"


def test_another_thread_that_packs_anew_at_any_moment_gives_nobody_old_weights(monkeypatch: pytest.MonkeyPatch):
    module = quantized(eight_inputs())
    x = torch.ones(4, 8)
    module(x)
    module.weight.zero_()
    looked_at = versions

    def while_another_comes_first(tensors: tuple[Tensor | None, ...]) -> tuple[int, ...]:
        monkeypatch.setattr(engine, "versions", looked_at)
        at_once(lambda: module(x), threads=1)
        return looked_at(tensors)

    monkeypatch.setattr(engine, "versions", while_another_comes_first)
    assert torch.equal(module(x), module.bias.expand(4, 5))
