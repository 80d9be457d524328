"""What every observer promises."""

import copy
import math
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from mono_quant.core.granularity import Granularity, PerChannel, PerGroup, PerTensor
from mono_quant.core.tensors import same_bits
from mono_quant.plugin_api import Observer, ObserverSpec, hookimpl
from mono_quant.quantizer import Quantizer
from mono_quant.testing.data import FINITE, NOT_FINITE, finite, seeded

__all__ = ["ObserverSuite"]

_GRANULARITIES = {"per-tensor": PerTensor(), "per-channel": PerChannel(1), "per-group": PerGroup(4, 1)}
_SMALLEST_SCALE = 1e-8

_every_granularity = pytest.mark.parametrize("granularity", _GRANULARITIES.values(), ids=_GRANULARITIES)
_of_any_batch = pytest.mark.parametrize("granularity", [PerTensor(), PerChannel(1)], ids=["per-tensor", "per-channel"])
"""Those whose groups are the same whatever the number of rows."""
_every_finite = pytest.mark.parametrize("kind", FINITE)


class ObserverSuite(ABC):
    """Derive a test class from it, write `make`, and correct the declarations that are not true of the observer.

    Data comes in batches ``(rows, channels, elements)``; what is compared is the range, to `rounding`.
    """

    depends_on_batches: ClassVar[bool] = False
    """Whether the same data in other batches may give another range, as for a moving average."""

    exceeds_data: ClassVar[bool] = False
    """Whether the range may reach beyond the data."""

    keeps_no_state: ClassVar[bool] = False
    """Whether it has no `state` to save and load; `load_state` then raises `TypeError`."""

    rounding: ClassVar[float] = 0.0
    """How far two ways to see the same data may lie apart, as a part of the largest magnitude in it."""

    @abstractmethod
    def make(self, **common: Any) -> Observer:  # noqa: ANN401 - dtype, symmetric, granularity, as the engine gives them
        """A new observer without data: ``return MyObserver(my_option=3, **common)``."""

    def test_it_is_made_for_what_was_asked(self) -> None:
        observer = self.make(dtype="uint8", symmetric=True, granularity=PerChannel(1))
        assert isinstance(observer, Observer), "make() must give a mono_quant.plugin_api.Observer"
        asked = (observer.qtype.name, observer.symmetric, observer.granularity)
        assert asked == ("uint8", True, PerChannel(1)), "hand dtype, symmetric, granularity on to super().__init__"

    def test_two_of_them_share_nothing(self) -> None:
        one, other = self.make(), self.make()
        one.forward(finite("normal"))
        assert other.range() is None, "an observer knows what another has seen"

    def test_before_data_nothing_is_known(self) -> None:
        _assert_new(self.make())

    @_every_granularity
    def test_an_empty_tensor_changes_nothing(self, granularity: Granularity) -> None:
        observer = self.make(granularity=granularity)
        observer.forward(torch.zeros(0, 4, 5))
        _assert_new(observer)
        observer.forward(finite("normal"))
        before = _ends(observer)
        observer.forward(torch.zeros(0, 4, 5))
        assert _same(before, _ends(observer)), "an empty tensor changed the range"

    @_every_granularity
    @_every_finite
    def test_the_range_is_finite_and_in_order(self, kind: str, granularity: Granularity) -> None:
        x = finite(kind)
        observer = self._seen([x], granularity=granularity)
        low, high = _ends(observer)
        groups = granularity.view(x).shape[1]
        assert low.shape == high.shape == (groups,), f"range() of {groups} groups must give two tensors ({groups},)"
        assert low.is_floating_point(), "range() must give float tensors"
        assert bool(torch.isfinite(torch.stack([low, high])).all()), "the range of finite data is not finite"
        assert bool((low <= high).all()), "range() gives a minimum above its maximum"

    @_every_granularity
    @_every_finite
    def test_the_range_keeps_within_the_data(self, kind: str, granularity: Granularity) -> None:
        x = finite(kind)
        low, high = _ends(self._seen([x], granularity=granularity))
        view = granularity.view(x)
        least, most = view.amin(dim=(0, 2)), view.amax(dim=(0, 2))
        slack = self.rounding * view.abs().amax(dim=(0, 2)).double()
        within = (low >= least - slack).all() and (high <= most + slack).all()
        assert within or self.exceeds_data, "the range reaches beyond the data; declare exceeds_data if it is meant to"

    @pytest.mark.parametrize("symmetric", [False, True])
    @pytest.mark.parametrize("dtype", ["int8", "uint8"])
    @_every_finite
    def test_scale_and_zero_point_can_be_used(self, kind: str, dtype: str, *, symmetric: bool) -> None:
        observer = self._seen([finite(kind)], dtype=dtype, symmetric=symmetric)
        scale, zero_point = observer.calculate_qparams()
        assert (scale.shape, zero_point.shape) == ((), ()), "calculate_qparams() per tensor must give 0-d tensors"
        assert (scale.dtype, zero_point.dtype) == (torch.float32, torch.int32)
        assert math.isfinite(scale) and float(scale) >= float(torch.tensor(_SMALLEST_SCALE))
        assert observer.qtype.qmin <= int(zero_point) <= observer.qtype.qmax

    @pytest.mark.parametrize("granularity", [PerChannel(1), PerGroup(15, 1)], ids=["per-channel", "per-group"])
    def test_one_group_does_not_see_another(self, granularity: Granularity) -> None:
        x, y = finite("normal"), finite("normal")
        y[:, 0] *= 100  # the first channel, so the first groups
        one, other = (_ends(self._seen([data], granularity=granularity)) for data in (x, y))
        last = granularity.view(x).shape[1] - 1
        assert _same([end[last] for end in one], [end[last] for end in other]), "a group's range depends on another's"

    @_every_granularity
    def test_the_data_is_left_as_it_was(self, granularity: Granularity) -> None:
        x = finite("normal")
        before = x.clone()
        assert self.make(granularity=granularity).forward(x) is x, "forward() must give back the tensor itself"
        assert same_bits(x, before), "observing changed the data"

    def test_later_changes_of_the_data_change_nothing(self) -> None:
        x = finite("normal")
        observer = self._seen([x])
        before = [end.clone() for end in _ends(observer)]
        x.mul_(1000)
        assert _same(before, _ends(observer)), "the observer keeps a view of the data, not numbers of its own"

    def test_reading_changes_nothing(self) -> None:
        read, unread = self.make(), self.make()
        for x in (finite("normal"), finite("outlier")):
            for observer in (read, unread):
                observer.forward(x)
            for _ in range(2):
                _ = (read.range(), read.min_val, read.max_val, read.calculate_qparams(), read.state())
        assert _same(_ends(read), _ends(unread)), "reading the range, the scale or the state changed what follows"

    def test_a_range_that_was_read_does_not_change_by_more_data(self) -> None:
        observer = self._seen([finite("normal")])
        ends = _ends(observer)
        before = [end.clone() for end in ends]
        observer.forward(finite("outlier"))
        assert _same(before, ends), "more data was written into a range that was handed out"

    def test_reset_forgets_everything(self) -> None:
        observer = self._seen([finite("outlier")])
        observer.reset()
        _assert_new(observer)
        observer.forward(finite("normal"))
        assert _same(_ends(observer), _ends(self._seen([finite("normal")]))), "reset() left something behind"

    def test_the_same_data_gives_the_same_bits(self) -> None:
        batches = [torch.randn(16, 4, 5, generator=seeded(i)) for i in range(4)]
        torch.manual_seed(1)
        one = _ends(self._seen(batches))
        torch.manual_seed(2)
        other = _ends(self._seen(batches))
        assert _same(one, other), "two runs over the same data give different ranges"

    @_of_any_batch
    def test_the_same_data_in_other_batches_gives_the_same_range(self, granularity: Granularity) -> None:
        x = torch.cat([finite(kind) for kind in ("normal", "heavy-tails", "positive")])
        whole = self._seen([x], granularity=granularity)
        batches = [x[:1], x[1:8], x[8:], x[:0]]
        close = self._close(_ends(whole), _ends(self._seen(batches, granularity=granularity)), x)
        assert close or self.depends_on_batches, "other batches give another range; declare depends_on_batches if meant"

    @_every_granularity
    def test_the_layout_in_memory_does_not_matter(self, granularity: Granularity) -> None:
        x = finite("normal")
        transposed = x.transpose(1, 2).contiguous().transpose(1, 2)
        one, other = (_ends(self._seen([data], granularity=granularity)) for data in (x, transposed))
        assert self._close(one, other, x), "the same numbers with other strides give another range"

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_every_float_type_is_observed(self, dtype: torch.dtype) -> None:
        x = torch.tensor([[-3.0, 0.5, 2.0, 7.0]])  # the same numbers in every type
        close = self._close(_ends(self._seen([x])), _ends(self._seen([x.to(dtype)])), x)
        assert close, f"{dtype} data gives another range than the same numbers in float32"
        assert self._seen([x.to(dtype)]).calculate_qparams()[0].dtype == torch.float32

    @pytest.mark.parametrize("bad", NOT_FINITE)
    @_every_granularity
    def test_what_is_not_finite_shows_for_good_where_that_is_claimed(
        self, bad: float, granularity: Granularity
    ) -> None:
        if not type(self.make()).shows_non_finite:
            return  # the engine looks for itself, and does not hand such data on
        x = finite("normal")
        x[3, 2, 1] = bad
        observer = self._seen([finite("normal"), x, finite("normal")], granularity=granularity)
        shown = not torch.isfinite(torch.stack(_ends(observer))).all()
        assert shown, f"shows_non_finite is True, and {bad} in the data does not show in range()"

    def test_memory_does_not_grow_with_the_batches(self) -> None:
        observer, generator, sizes = self.make(), seeded(), list[int]()
        for _ in range(2):
            for _ in range(100):
                observer.forward(torch.randn(64, 64, generator=generator))
            sizes.append(len(pickle.dumps(observer)))
        assert sizes[1] - sizes[0] <= 64, f"after 100 batches it takes {sizes[0]} bytes, after 200 {sizes[1]}"

    def test_no_gradients_are_kept(self) -> None:
        observer = self._seen([finite("normal").requires_grad_()])
        assert not any(end.requires_grad for end in _ends(observer)), "the range holds on to the graph of the data"

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["copy", "pickle"])  # noqa: S301 - made on this line
    def test_a_copy_goes_on_alone(self, copied: Any) -> None:  # noqa: ANN401
        original = self._seen([finite("normal")])
        before = [end.clone() for end in _ends(original)]
        twin = copied(original)
        assert _same(before, _ends(twin)), "a copy has another range"
        twin.forward(finite("outlier"))
        assert _same(before, _ends(original)), "a copy shares its memory with the original"

    @_every_granularity
    def test_a_saved_state_goes_on_as_the_original(self, granularity: Granularity) -> None:
        original = self._seen([finite("normal")], granularity=granularity)
        if self.keeps_no_state:
            with pytest.raises(TypeError):
                self.make().load_state({"any": torch.zeros(1)})
            return
        _assert_keeps_state(original)
        state = original.state()
        assert state and all(isinstance(value, Tensor) for value in state.values()), "state() must give tensors by name"
        restored = self.make(granularity=granularity)
        restored.load_state({name: value.clone() for name, value in state.items()})
        assert _same(_ends(original), _ends(restored)), "load_state(state()) gives another range"
        for observer in (original, restored):
            observer.forward(finite("outlier"))
        assert _same(_ends(original), _ends(restored)), "after load_state(state()) more data gives another range"

    @pytest.mark.parametrize("symmetric", [False, True])
    @pytest.mark.parametrize("dtype", ["int8", "uint8"])
    def test_a_saved_state_serves_other_codes(self, dtype: str, *, symmetric: bool) -> None:
        if self.keeps_no_state:
            return
        x = finite("heavy-tails")
        original = self._seen([x], dtype="int8", symmetric=False)
        _assert_keeps_state(original)
        restored = self.make(dtype=dtype, symmetric=symmetric)
        restored.load_state(original.state())
        expected = self._seen([x], dtype=dtype, symmetric=symmetric)
        same = _same(_ends(expected), _ends(restored))
        assert same, "a state must say what was seen, not what its observer's codes made of it"

    @_every_granularity
    def test_a_state_shares_no_memory_with_the_observer_that_gave_it(self, granularity: Granularity) -> None:
        original = self._seen([finite("normal")], granularity=granularity)
        state, before = original.state(), [end.clone() for end in _ends(original)]
        saved = {name: value.clone() for name, value in state.items()}
        original.forward(finite("outlier"))
        original.reset()
        assert _same(saved.values(), state.values()), "state() gives tensors that later data is written into: copy them"
        original.forward(finite("normal"))
        for value in original.state().values():
            value.zero_()
        assert _same(before, _ends(original)), "who writes into what state() gave changes the observer: copy it"

    @_every_granularity
    def test_a_state_shares_no_memory_with_the_observer_that_loaded_it(self, granularity: Granularity) -> None:
        if self.keeps_no_state:
            return
        original = self._seen([finite("normal")], granularity=granularity)
        _assert_keeps_state(original)
        state = {name: value.clone() for name, value in original.state().items()}
        before = {name: value.clone() for name, value in state.items()}
        restored = self.make(granularity=granularity)
        restored.load_state(state)
        restored.forward(finite("outlier"))
        assert _same(before.values(), state.values()), "data is written into what load_state() was given: copy it"
        restored.load_state(state)
        ends = [end.clone() for end in _ends(restored)]
        for value in state.values():
            value.zero_()
        assert _same(ends, _ends(restored)), "who writes into what load_state() was given changes the observer: copy it"

    def test_the_state_before_data_is_empty(self) -> None:
        observer = self._seen([finite("normal")])
        assert self.make().state() == {}, "without data there is no state"
        if not self.keeps_no_state:
            _assert_keeps_state(observer)
            observer.load_state({})
            _assert_new(observer)

    @_every_granularity
    def test_merging_is_exact_or_refused(self, granularity: Granularity) -> None:
        left, right = [finite("normal"), finite("heavy-tails")], [finite("outlier")]
        one, other = self._seen(left, granularity=granularity), self._seen(right, granularity=granularity)
        if not type(one).mergeable:
            return  # it may merge roughly, or raise TypeError: nothing is promised
        before = [end.clone() for end in _ends(other)]
        one.merge(other)
        all_of_it = _ends(self._seen([*left, *right], granularity=granularity))
        assert self._close(all_of_it, _ends(one), torch.cat([*left, *right])), "mergeable is True; merge() is not exact"
        one.forward(finite("heavy-tails") * 50)
        assert _same(before, _ends(other)), "merge() shares memory with the other observer"

    def test_merging_with_nothing_changes_nothing(self) -> None:
        if not type(self.make()).mergeable:
            return
        seen, empty = self._seen([finite("normal")]), self.make()
        before = _ends(seen)
        seen.merge(self.make())
        assert _same(before, _ends(seen)), "merging an observer without data changed the range"
        empty.merge(seen)
        assert _same(before, _ends(empty)), "an observer without data, merged with another, has another range"
        nothing = self.make()
        nothing.merge(self.make())
        _assert_new(nothing)

    def test_a_quantizer_uses_its_range(self) -> None:
        batches = [torch.randn(8, 6, generator=seeded(i)) for i in range(3)]
        result = Quantizer(
            observer="the-observer", plugins=[_Plugin(self.make)],
            autoload=False, show_progress=False, on_failure="ignore",
        ).quantize(nn.Sequential(nn.Linear(6, 4)), batches)  # fmt: skip
        expected = self._seen(batches, dtype="uint8").calculate_qparams()
        found = result.model.get_submodule("0").get_buffer("input_scale")
        assert torch.equal(found, expected[0]), "a quantized layer does not have the scale of this observer"

    def _seen(self, batches: Iterable[Tensor], **common: Any) -> Observer:  # noqa: ANN401
        observer = self.make(**common)
        for batch in batches:
            observer.forward(batch)
        return observer

    def _close(self, one: Iterable[Tensor], other: Iterable[Tensor], data: Tensor) -> bool:
        slack = self.rounding * float(data.abs().max())
        return all(float((x.double() - y.double()).abs().max()) <= slack for x, y in zip(one, other, strict=True))


class _Plugin:
    def __init__(self, factory: Any) -> None:  # noqa: ANN401
        self._factory = factory

    @hookimpl
    def mono_quant_observers(self) -> list[ObserverSpec]:
        return [ObserverSpec(name="the-observer", summary="the observer under test", factory=self._factory)]


def _assert_new(observer: Observer) -> None:
    known = (observer.range(), observer.min_val, observer.max_val)
    assert known == (None, None, None), "without data range() must be None"
    with pytest.raises(RuntimeError, match="no data"):
        observer.calculate_qparams()


def _assert_keeps_state(observer: Observer) -> None:
    kind = type(observer)
    is_written = kind.state is not Observer.state and kind.load_state is not Observer.load_state
    assert is_written, "write state() and load_state(), or declare keeps_no_state = True in the test class"


def _ends(observer: Observer) -> tuple[Tensor, Tensor]:
    ends = observer.range()
    assert isinstance(ends, tuple) and len(ends) == 2, "after data range() must give (min, max)"
    return ends


def _same(one: Iterable[Tensor], other: Iterable[Tensor]) -> bool:
    return all(same_bits(x, y) for x, y in zip(one, other, strict=True))
