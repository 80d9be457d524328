import gc
import threading
import time
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mono_quant import Quantizer
from mono_quant.errors import ConfigurationError
from mono_quant.kernels.float_cache import FLOAT_CACHE, FloatCache

MB = 2**20
SWITCH = "MONO_QUANT_FLOAT_CACHE_MB"


class Owner:
    """Something that has weights."""


class Maker:
    """Makes a tensor of some bytes, twice its source, and counts."""

    def __init__(self, source: Tensor) -> None:
        self.source = source
        self.calls = 0

    def __call__(self) -> Tensor:
        self.calls += 1
        return 2 * self.source


def floats(count: int, value: float = 1.0) -> Tensor:
    return torch.full((count,), value, dtype=torch.float32)


def get(cache: FloatCache, owner: Owner, maker: Maker, name: str = "weight") -> Tensor:
    return cache.get(owner, name, (maker.source,), maker)


def test_what_was_made_is_made_once():
    cache, owner, maker = FloatCache(1000), Owner(), Maker(floats(3))
    first, second = get(cache, owner, maker), get(cache, owner, maker)
    assert first is second
    assert first.tolist() == [2, 2, 2]
    assert (maker.calls, cache.nbytes) == (1, 12)


def test_names_and_owners_do_not_mix():
    cache, owners = FloatCache(1000), (Owner(), Owner())
    for step, owner in enumerate(owners):
        for name in "ab":
            maker = Maker(floats(2, 10 * step + (name == "b")))
            assert torch.equal(get(cache, owner, maker, name), 2 * maker.source)
    assert cache.nbytes == 4 * 8


@pytest.mark.parametrize("budget", [0, 1, 39])
def test_what_is_larger_than_the_budget_is_not_kept(budget: int):
    cache, owner, maker = FloatCache(budget), Owner(), Maker(floats(10))
    for calls in (1, 2, 3):
        assert torch.equal(get(cache, owner, maker), 2 * maker.source)
        assert (maker.calls, cache.nbytes) == (calls, 0)


def test_what_just_fits_is_kept():
    cache, owner, maker = FloatCache(40), Owner(), Maker(floats(10))
    get(cache, owner, maker)
    get(cache, owner, maker)
    assert (maker.calls, cache.nbytes) == (1, 40)


def test_something_that_is_too_large_lets_nothing_else_go_but_what_it_replaces():
    cache, owner, other = FloatCache(40), Owner(), Owner()
    small, grown = Maker(floats(5)), Maker(floats(50))
    get(cache, owner, small)
    get(cache, other, Maker(floats(5)))
    get(cache, owner, grown)
    assert cache.nbytes == 20
    get(cache, owner, small)
    assert small.calls == 2


def rounds(cache: FloatCache, things: list[tuple[Owner, Maker]], count: int) -> int:
    """Read everything in turn, some times over, and count what was made for it."""
    before = sum(maker.calls for _, maker in things)
    for _ in range(count):
        for owner, maker in things:
            assert torch.equal(get(cache, owner, maker), 2 * maker.source)
    return sum(maker.calls for _, maker in things) - before


def things(count: int) -> list[tuple[Owner, Maker]]:
    """Some owners of one thing of 40 bytes each."""
    return [(Owner(), Maker(floats(10, step))) for step in range(count)]


@pytest.mark.parametrize(("count", "most"), [(10, 0), (11, 1.25), (15, 6), (20, 11.5), (40, 33)])
def test_what_is_read_in_turn_is_kept_as_far_as_it_fits(count: int, most: float):
    cache, model = FloatCache(10 * 40), things(count)
    assert rounds(cache, model, 1) == count
    assert rounds(cache, model, 100) <= 100 * most  # no rule can do with less than count - 10
    assert cache.nbytes == 400


def test_what_was_made_last_is_there_when_it_is_read_again_at_once():
    cache, model = FloatCache(10 * 40), things(20)
    twice = [thing for thing in model for _ in range(2)]
    rounds(cache, model, 1)
    assert rounds(cache, twice, 100) // 2 <= 100 * 11.5


def test_two_models_that_take_turns_share_the_room():
    cache, model, other = FloatCache(10 * 40), things(7), things(7)
    rounds(cache, model + other, 1)
    assert rounds(cache, model + other, 100) <= 100 * 5


def test_a_model_that_is_no_longer_used_makes_room():
    cache, idle, used = FloatCache(10 * 40), things(10), things(10)
    rounds(cache, idle, 3)
    rounds(cache, used, 60)
    assert rounds(cache, used, 100) <= 20
    assert cache.nbytes == 400


def test_one_large_thing_lets_several_small_ones_go():
    cache = FloatCache(100)
    owners = [Owner() for _ in range(3)]
    for owner in owners:
        get(cache, owner, Maker(floats(8)))
    large, last = Maker(floats(15)), Owner()
    get(cache, last, large)
    assert cache.nbytes == 32 + 60
    get(cache, last, large)
    assert large.calls == 1


def test_what_is_kept_is_never_more_than_the_budget():
    cache = FloatCache(1000)
    owners = [Owner() for _ in range(20)]
    generator = torch.Generator().manual_seed(0)
    for _ in range(500):
        index, count = torch.randint(0, 20, (2,), generator=generator).tolist()
        maker = Maker(floats(count * 20))
        assert get(cache, owners[index], maker).numel() == count * 20
        assert cache.nbytes <= 1000


def test_it_goes_with_its_owner():
    cache, owner, other = FloatCache(1000), Owner(), Owner()
    for name in "ab":
        get(cache, owner, Maker(floats(3)), name)
    get(cache, other, Maker(floats(5)))
    made = weakref.ref(get(cache, owner, Maker(floats(3)), "c"))
    del owner
    assert cache.nbytes == 20
    assert made() is None


def test_it_goes_with_an_owner_in_a_cycle():
    cache, owner = FloatCache(1000), Owner()
    owner.itself = owner
    get(cache, owner, Maker(floats(3)))
    del owner
    gc.collect()
    assert cache.nbytes == 0


def test_an_owner_is_not_kept_alive():
    cache, owner = FloatCache(1000), Owner()
    reference = weakref.ref(owner)
    get(cache, owner, Maker(floats(3)))
    del owner
    assert reference() is None


def test_owners_that_come_and_go_at_one_address_are_not_confused():
    cache = FloatCache(10**6)
    for step in range(200):
        owner, maker = Owner(), Maker(floats(4, step))
        assert torch.equal(get(cache, owner, maker), 2 * maker.source)
        assert maker.calls == 1
        del owner
    assert cache.nbytes == 0


def test_forgetting_lets_go_of_all_of_one_owner():
    cache, owner, other = FloatCache(1000), Owner(), Owner()
    maker = Maker(floats(3))
    for name in "ab":
        get(cache, owner, maker, name)
    get(cache, other, Maker(floats(5)))
    cache.forget(id(owner))
    cache.forget(id(owner))
    assert cache.nbytes == 20
    get(cache, owner, maker, "a")
    assert maker.calls == 3


@pytest.mark.parametrize(("budget", "count"), [(0, 3), (1000, 3), (1000, 300)])
def test_nothing_grows_with_the_number_of_calls(budget: int, count: int):
    cache, owner, maker = FloatCache(budget), Owner(), Maker(floats(count))
    for _ in range(3):
        get(cache, owner, maker)
        cache.forget(id(owner))
    finalizers, references = len(weakref.finalize._registry), weakref.getweakrefcount(owner)
    for _ in range(50):
        get(cache, owner, maker)
        cache.forget(id(owner))
    assert len(weakref.finalize._registry) == finalizers
    assert weakref.getweakrefcount(owner) == references == 0


@pytest.mark.parametrize(
    "write",
    [
        lambda source: source.mul_(3),
        lambda source: source[1:].zero_(),
        lambda source: source.copy_(torch.tensor([5.0, 6.0, 7.0])),
        lambda source: source.view(-1, 1).add_(1),
        lambda source: source.detach().fill_(7.0),
    ],
    ids=["whole", "part", "copy", "view", "detached"],
)
def test_writing_into_a_source_is_followed(write: Callable[[Tensor], object]):
    cache, owner, maker = FloatCache(1000), Owner(), Maker(floats(3))
    get(cache, owner, maker)
    write(maker.source)
    assert torch.equal(get(cache, owner, maker), 2 * maker.source)
    assert maker.calls == 2


def test_another_tensor_in_place_of_a_source_is_followed():
    cache, owner, maker = FloatCache(1000), Owner(), Maker(floats(3))
    get(cache, owner, maker)
    maker.source = floats(3, 4.0)
    assert get(cache, owner, maker).tolist() == [8, 8, 8]
    before = cache.get(owner, "weight", (maker.source, maker.source), lambda: floats(1))
    assert before.tolist() == [1]


def test_a_write_while_it_is_made_is_followed_at_the_next_call():
    cache, owner, source = FloatCache(1000), Owner(), floats(3)

    def make_while_another_writes() -> Tensor:
        made = 2 * source
        source.fill_(5.0)
        return made

    assert cache.get(owner, "weight", (source,), make_while_another_writes).tolist() == [2, 2, 2]
    assert cache.get(owner, "weight", (source,), lambda: 2 * source).tolist() == [10, 10, 10]


def test_what_is_written_into_the_made_tensor_is_not_given_out_again():
    cache, owner, maker = FloatCache(1000), Owner(), Maker(floats(3))
    get(cache, owner, maker).zero_()
    assert get(cache, owner, maker).tolist() == [2, 2, 2]


def test_tensors_of_inference_mode_are_kept_by_identity():
    cache, owner = FloatCache(1000), Owner()
    with torch.inference_mode():
        maker = Maker(floats(3))
        get(cache, owner, maker)
        get(cache, owner, maker)
        assert maker.calls == 1
        maker.source = floats(3, 4.0)
    assert get(cache, owner, maker).tolist() == [8, 8, 8]


def test_a_maker_that_fails_leaves_the_cache_as_it_was():
    cache, owner, maker = FloatCache(1000), Owner(), Maker(floats(3))
    get(cache, owner, maker)
    with pytest.raises(ZeroDivisionError):
        cache.get(owner, "weight", (floats(1),), lambda: 1 / 0)
    get(cache, owner, maker)
    assert (maker.calls, cache.nbytes) == (1, 12)


def test_threads_get_what_belongs_to_them():
    cache = FloatCache(2000)
    owners = [Owner() for _ in range(6)]
    sources = [floats(100, index) for index in range(6)]
    wrong: list[object] = []

    def work(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        try:
            for _ in range(300):
                index = int(torch.randint(0, 6, (), generator=generator))
                made = cache.get(owners[index], "weight", (sources[index],), lambda i=index: 2 * sources[i])
                assert torch.equal(made, 2 * sources[index])
                assert cache.nbytes <= 2000
                if index == 0:
                    cache.forget(id(owners[index]))
                get(cache, Owner(), Maker(floats(10)))  # one that goes at once
        except BaseException as error:  # noqa: BLE001 - shown in the main thread
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_one_slow_maker_does_not_hold_up_the_others():
    cache, entered, release = FloatCache(1000), threading.Event(), threading.Event()
    slow_owner, owner, maker = Owner(), Owner(), Maker(floats(3))

    def slowly() -> Tensor:
        entered.set()
        assert release.wait(30)
        return floats(1)

    thread = threading.Thread(target=lambda: cache.get(slow_owner, "weight", (), slowly))
    thread.start()
    assert entered.wait(30)
    start = time.monotonic()
    get(cache, owner, maker)
    assert time.monotonic() - start < 10
    assert not release.is_set()
    release.set()
    thread.join()
    assert cache.nbytes == 12 + 4


def test_an_owner_may_go_while_the_garbage_collector_runs_inside_the_cache():
    cache = FloatCache(4000)
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for step in range(300):
            owner = Owner()
            owner.itself = owner
            get(cache, owner, Maker(floats(10, step)), f"weight{step % 3}")
            assert cache.nbytes <= 4000
    finally:
        gc.set_threshold(*threshold)


@pytest.mark.parametrize(("text", "budget"), [("0", 0), ("1", MB), ("2048", 2048 * MB), (None, 1024 * MB)])
def test_the_budget_is_read_from_the_environment(text: str | None, budget: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(SWITCH, raising=False)
    if text is not None:
        monkeypatch.setenv(SWITCH, text)
    assert FloatCache().budget == budget
    assert FloatCache(7).budget == 7


@pytest.mark.parametrize("text", ["", " ", "-1", "1.5", "1e3", "all", "1 GB", "²", "١", "0x10", "+1"])
def test_a_switch_that_is_no_number_is_an_error_that_names_it(text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SWITCH, text)
    with pytest.raises(
        ConfigurationError, match=rf"{SWITCH} must be a whole number of MB, got {text!r}".replace("+", r"\+")
    ):
        get(FloatCache(), Owner(), Maker(floats(3)))


def test_the_budget_of_the_environment_is_followed_while_the_process_runs(monkeypatch: pytest.MonkeyPatch):
    cache, owner, other = FloatCache(), Owner(), Owner()
    monkeypatch.setenv(SWITCH, "1")
    maker = Maker(floats(MB // 4))
    get(cache, owner, maker)
    assert cache.nbytes == MB
    get(cache, other, Maker(floats(10)))
    assert cache.nbytes == 40
    monkeypatch.setenv(SWITCH, "0")
    get(cache, owner, maker)
    assert cache.nbytes == 0


@pytest.mark.parametrize("kernel", ["dequantize", "auto"])
def test_a_model_gives_the_same_with_no_budget_at_all(kernel: str, monkeypatch: pytest.MonkeyPatch):
    model = nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 20)).eval()
    x = torch.randn(5, 20)
    options = {"name": "int4-weight-only", "group_size": 20}
    quantized = Quantizer(options, kernel="dequantize", validators=()).quantize(model).model
    with torch.no_grad():
        expected = quantized(x)
        held = FLOAT_CACHE.nbytes
        monkeypatch.setenv(SWITCH, "0")
        other = Quantizer(options, kernel=kernel, validators=()).quantize(model).model
        y = other(x)
        assert torch.equal(y, expected) if kernel == "dequantize" else (y - expected).abs().max() < 0.05
    assert FLOAT_CACHE.nbytes <= held


def test_a_module_that_goes_takes_its_float_weights_along():
    held = FLOAT_CACHE.nbytes
    model = nn.Conv2d(16, 16, 3)
    module = Quantizer("int8-weight-only", validators=()).quantize(model).model
    module(torch.randn(1, 16, 5, 5))
    assert FLOAT_CACHE.nbytes == held + 16 * 16 * 9 * 4
    del module
    assert FLOAT_CACHE.nbytes == held
