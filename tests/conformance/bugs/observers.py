"""Observers with one bug each: what a suite is called here is what must fail."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from mono_quant.core.observers import MinMaxObserver
from mono_quant.plugin_api import Observer
from mono_quant.testing import ObserverSuite

FINDS: dict[type[ObserverSuite], str] = {}
"""Suite of a planted bug → the test that must fail."""


def planted(test: str) -> Any:
    """Under this test the bug shows."""

    def wrap(observer: type[MinMaxObserver]) -> type[MinMaxObserver]:
        def make(self: ObserverSuite, **common: Any) -> MinMaxObserver:
            del self
            return observer(**common)

        suite = type(f"Test{observer.__name__}", (ObserverSuite,), {"make": make, "__module__": __name__})
        globals()[suite.__name__] = suite
        FINDS[suite] = test
        return observer

    return wrap


@planted("test_before_data_nothing_is_known")
class BeginsAtZero(MinMaxObserver):
    def range(self):
        return super().range() or (torch.zeros(1), torch.zeros(1))


@planted("test_the_data_is_left_as_it_was")
class ClampsInPlace(MinMaxObserver):
    def observe(self, view: Tensor) -> None:
        super().observe(view.clamp_(-1, 1))


@planted("test_the_data_is_left_as_it_was")
class GivesBackACopy(MinMaxObserver):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).clone()


@planted("test_memory_does_not_grow_with_the_batches")
class KeepsEverything(MinMaxObserver):
    def observe(self, view: Tensor) -> None:
        super().observe(view)
        self.seen = [*getattr(self, "seen", []), view.clone()]


@planted("test_memory_does_not_grow_with_the_batches")
class KeepsANumberABatch(MinMaxObserver):
    def observe(self, view: Tensor) -> None:
        super().observe(view)
        self.means = [*getattr(self, "means", []), float(view.mean())]


@planted("test_later_changes_of_the_data_change_nothing")
class KeepsAView(MinMaxObserver):
    def observe(self, view: Tensor) -> None:
        self.view = view

    def reset(self) -> None:
        self.view = None

    def range(self):
        return None if self.view is None else (self.view.amin(dim=(0, 2)), self.view.amax(dim=(0, 2)))


@planted("test_the_same_data_in_other_batches_gives_the_same_range")
class AveragesBatches(MinMaxObserver):
    def _widen(self, low: Tensor, high: Tensor) -> None:
        before = self._range
        self._range = (low, high) if before is None else ((before[0] + low) / 2, (before[1] + high) / 2)


@planted("test_the_same_data_in_other_batches_gives_the_same_range")
class LooksAtTheFirstBatch(MinMaxObserver):
    def observe(self, view: Tensor) -> None:
        if self._range is None:
            super().observe(view)


@planted("test_what_is_not_finite_shows_for_good_where_that_is_claimed")
class HidesNaN(MinMaxObserver):
    def observe(self, view: Tensor) -> None:
        super().observe(view.nan_to_num())


@planted("test_reset_forgets_everything")
class ResetsHalf(MinMaxObserver):
    def reset(self) -> None:
        kept = getattr(self, "_range", None)
        self._range = None if kept is None else (kept[0], kept[1] * 0)


@planted("test_merging_is_exact_or_refused")
class MergesByReplacing(MinMaxObserver):
    def merge(self, other: MinMaxObserver) -> None:
        self._range = other.range() or self._range


@planted("test_merging_with_nothing_changes_nothing")
class MergesNothingBadly(MinMaxObserver):
    def merge(self, other: MinMaxObserver) -> None:
        self._widen(*(other.range() or (torch.zeros(1) - 9, torch.zeros(1) + 9)))


@planted("test_a_saved_state_goes_on_as_the_original")
class LosesTheMaximum(MinMaxObserver):
    def load_state(self, state: dict[str, Tensor]) -> None:
        self._range = (state["min"], state["min"].clone()) if state else None


@planted("test_a_saved_state_goes_on_as_the_original")
class HasNoState(MinMaxObserver):
    def state(self) -> dict[str, Tensor]:
        return {}


@planted("test_a_saved_state_goes_on_as_the_original")
class WritesNoState(MinMaxObserver):
    state = Observer.state
    load_state = Observer.load_state


@planted("test_a_saved_state_goes_on_as_the_original")
class SavesOneGroup(MinMaxObserver):
    """Right per tensor."""

    def state(self) -> dict[str, Tensor]:
        return {name: end[:1] for name, end in super().state().items()}


@planted("test_a_saved_state_serves_other_codes")
class CentresWhatItKeeps(MinMaxObserver):
    """Right while no state is loaded."""

    def _widen(self, low: Tensor, high: Tensor) -> None:
        largest = torch.maximum(-low, high)
        super()._widen(*((-largest, largest) if self.symmetric else (low, high)))


@planted("test_a_state_shares_no_memory_with_the_observer_that_gave_it")
class HandsOutWhatItKeeps(MinMaxObserver):
    def state(self) -> dict[str, Tensor]:
        return {} if self._range is None else {"min": self._range[0], "max": self._range[1]}


class WidensInPlace(MinMaxObserver):
    def range(self):
        ends = super().range()
        return ends and (ends[0].clone(), ends[1].clone())

    def _widen(self, low: Tensor, high: Tensor) -> None:
        if self._range is None:
            self._range = (low.clone(), high.clone())
        else:
            torch.minimum(self._range[0], low, out=self._range[0])
            torch.maximum(self._range[1], high, out=self._range[1])


@planted("test_a_state_shares_no_memory_with_the_observer_that_gave_it")
class WritesIntoASavedState(WidensInPlace):
    def state(self) -> dict[str, Tensor]:
        return {} if self._range is None else {"min": self._range[0], "max": self._range[1]}


@planted("test_a_state_shares_no_memory_with_the_observer_that_loaded_it")
class WritesIntoALoadedState(WidensInPlace):
    def load_state(self, state: dict[str, Tensor]) -> None:
        self._range = (state["min"], state["max"]) if state else None


@planted("test_a_state_shares_no_memory_with_the_observer_that_loaded_it")
class KeepsALoadedState(MinMaxObserver):
    def load_state(self, state: dict[str, Tensor]) -> None:
        self._range = (state["min"], state["max"]) if state else None


planted("")(WidensInPlace)


@planted("test_two_of_them_share_nothing")
class SharesAcrossInstances(MinMaxObserver):
    _all: ClassVar[dict[str, Any]] = {}

    def reset(self) -> None:
        self._all.setdefault("range", None)

    def observe(self, view: Tensor) -> None:
        self._all["range"] = torch.aminmax(view)

    def range(self):
        found = self._all["range"]
        return found and (found[0].reshape(1), found[1].reshape(1))


@planted("test_the_same_data_gives_the_same_bits")
class SamplesAtRandom(MinMaxObserver):
    def observe(self, view: Tensor) -> None:
        kept = view[:, :, torch.randint(view.shape[2], (max(1, view.shape[2] // 3),))]
        super().observe(kept)


@planted("test_one_group_does_not_see_another")
class LooksAcrossGroups(MinMaxObserver):
    def observe(self, view: Tensor) -> None:
        low, high = (end.expand(view.shape[1]).clone() for end in torch.aminmax(view))
        self._widen(low, high)


@planted("test_the_range_is_finite_and_in_order")
class GivesOneRangeForAllGroups(MinMaxObserver):
    def observe(self, view: Tensor) -> None:
        self._widen(*(end.reshape(1) for end in torch.aminmax(view)))


@planted("test_reading_changes_nothing")
class DeletesWhatIsRead(MinMaxObserver):
    def calculate_qparams(self):
        found = super().calculate_qparams()
        self.reset()
        return found


@planted("test_the_range_is_finite_and_in_order")
class ComputesInHalf(MinMaxObserver):
    def observe(self, view: Tensor) -> None:
        super().observe(view.half())


@planted("test_the_range_keeps_within_the_data")
class AddsAMargin(MinMaxObserver):
    def range(self):
        ends = super().range()
        return ends and (ends[0] - ends[0].abs() / 10, ends[1] + ends[1].abs() / 10)


@planted("test_no_gradients_are_kept")
class KeepsTheGraph(MinMaxObserver):
    def forward(self, x: Tensor) -> Tensor:
        if x.numel():
            self.observe(self.granularity.view(x))
        return x


@planted("test_a_range_that_was_read_does_not_change_by_more_data")
class WritesIntoItsRange(MinMaxObserver):
    def _widen(self, low: Tensor, high: Tensor) -> None:
        if self._range is None:
            self._range = (low, high)
        else:
            torch.minimum(self._range[0], low, out=self._range[0])
            torch.maximum(self._range[1], high, out=self._range[1])


@planted("test_it_is_made_for_what_was_asked")
class ForgetsWhatItIsFor(MinMaxObserver):
    def __init__(self, **common: Any) -> None:
        super().__init__(granularity=common.get("granularity"))


@planted("test_the_range_is_finite_and_in_order")
class SwapsTheEnds(MinMaxObserver):
    def range(self):
        ends = super().range()
        return ends and (ends[1], ends[0])


@planted("test_an_empty_tensor_changes_nothing")
class TakesEmptyForZero(MinMaxObserver):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.numel() else self.forward(torch.zeros(1, 4, 5))


@planted("test_every_float_type_is_observed")
class TakesFloat32Only(MinMaxObserver):
    def observe(self, view: Tensor) -> None:
        if view.dtype == torch.float32:
            super().observe(view)
        else:
            self._widen(torch.zeros(view.shape[1]), torch.zeros(view.shape[1]))


@planted("test_a_copy_goes_on_alone")
class SharesWithItsCopy(MinMaxObserver):
    def __deepcopy__(self, memo: dict[int, Any]) -> "SharesWithItsCopy":
        return self


@planted("test_the_layout_in_memory_does_not_matter")
class ReadsMemoryInOrder(MinMaxObserver):
    def observe(self, view: Tensor) -> None:
        raw = view.as_strided((view.numel(),), (1,))[: max(1, view.numel() // 2)]
        self._widen(raw.min().expand(view.shape[1]).clone(), raw.max().expand(view.shape[1]).clone())
