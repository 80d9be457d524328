"""The helpers themselves: float figures, data of the promised size, and clear errors."""

import pytest
import torch

from . import MissingAssetError, ModelInput, RealModel, run
from .assets import asset, missing
from .figures import equal_error_rate, pearson, relative_error, spearman

FLOAT_FIGURES = {
    "minilm": {"lee_pearson": 0.656, "wordsim_spearman": 0.729, "cosine": 1.0},
    "smollm2": {"perplexity": 42.226, "agreement": 1.0},
    "efficientnet": {"top1": 0.908, "agreement": 1.0, "relative_error": 0.0},
    "efficientnet_plain": {"top1": 0.908, "agreement": 1.0, "relative_error": 0.0},
    "crepe": {"median_cents": 2.578, "relative_error": 0.0},
    "silero": {"accuracy": 0.978, "agreement": 1.0},
    "resemblyzer": {"equal_error_rate": 0.112, "cosine": 1.0},
}


def test_the_float_model_scores_its_known_figures(real_model: RealModel) -> None:
    model = real_model.load()
    assert real_model.score(model, model) == pytest.approx(FLOAT_FIGURES[real_model.name], abs=2e-3, rel=1e-3)


def test_a_model_is_loaded_in_eval_mode_and_anew_each_time(real_model: RealModel) -> None:
    first, second = real_model.load(), real_model.load()
    assert not any(module.training for module in first.modules())
    assert {id(p) for p in first.parameters()}.isdisjoint(id(p) for p in second.parameters())


def test_the_model_accepts_its_calibration_batches(real_model: RealModel) -> None:
    batches = real_model.calibration()
    assert 16 <= len(batches) <= 32
    with torch.no_grad():
        run(real_model.load(), batches[0])


@pytest.mark.parametrize("batch_size", [1, 16])
def test_an_example_has_the_batch_size_asked_for(real_model: RealModel, batch_size: int) -> None:
    example = real_model.example(batch_size)
    tensors = example.values() if isinstance(example, dict) else [example]
    assert {len(tensor) for tensor in tensors} == {batch_size}


def test_a_batch_is_held_back_from_calibration(real_model: RealModel) -> None:
    held_back = _rows(real_model.held_back())
    assert held_back
    assert held_back.isdisjoint(row for batch in real_model.calibration() for row in _rows(batch))
    with torch.no_grad():
        run(real_model.load(), real_model.held_back())


def _rows(batch: ModelInput) -> set[tuple[float, ...]]:
    """What tells the samples of a batch apart: the first numbers of each, before there is padding."""
    inputs = batch if isinstance(batch, torch.Tensor) else next(iter(batch.values()))
    return {tuple(sample.flatten()[:96].tolist()) for sample in inputs}


def test_what_is_not_installed_is_named() -> None:
    model = RealModel(name="unknown", requirements=("no-such-distribution==1.0",))
    assert model.missing == ("no-such-distribution==1.0",)
    with pytest.raises(MissingAssetError, match=r"'unknown' needs no-such-distribution==1\.0"):
        model.load()


def test_another_version_than_the_pinned_counts_as_missing() -> None:
    assert missing(("attrs==0.0.1",)) == ("attrs==0.0.1",)


def test_a_file_that_its_package_lacks_is_named(real_model: RealModel) -> None:
    distribution = real_model.requirements[0].partition("==")[0]
    with pytest.raises(MissingAssetError, match=r"has no no/such/file"):
        asset(distribution, "no/such/file")


def test_equal_values_share_their_mean_rank() -> None:
    x, y = torch.tensor([1.0, 5.0, 5.0, 9.0]), torch.tensor([10.0, 30.0, 20.0, 40.0])
    ranks_x, ranks_y = torch.tensor([1.0, 2.5, 2.5, 4.0]), torch.tensor([1.0, 3.0, 2.0, 4.0])
    assert spearman(x, y) == pytest.approx(pearson(ranks_x, ranks_y))


def test_relative_error_is_that_of_the_norms() -> None:
    assert relative_error(torch.tensor([3.0, 4.5]), torch.tensor([3.0, 4.0])) == pytest.approx(0.1)


def test_the_equal_error_rate_is_where_both_errors_are_alike() -> None:
    likeness = torch.tensor([0.9, 0.8, 0.7, 0.2, 0.75, 0.3, 0.25, 0.1])
    is_same = torch.tensor([True, True, True, True, False, False, False, False])
    # At any threshold between 0.7 and 0.3 one of four is missed and one of four is mistaken.
    assert equal_error_rate(likeness, is_same) == pytest.approx(0.25)
    assert equal_error_rate(likeness, likeness > 0.5) == 0
    assert equal_error_rate(likeness, likeness < 0.5) == 1
