"""Which rows are kept."""

import torch

from mono_quant.core.smoothing.row_sample import RowSample

CPU = torch.device("cpu")


def test_of_many_rows_each_is_as_likely_to_be_kept_and_none_twice():
    sample = RowSample(1, CPU)
    for part in torch.arange(40_000.0)[:, None].split(3_000):
        sample(part)
    assert len(set(sample.kept[:, 0].tolist())) == 256
    counts = torch.histc(sample.kept, bins=8, min=0, max=40_000)
    assert float((counts - 32).abs().max()) < 25  # over four standard deviations


def test_the_same_rows_are_kept_each_time():
    torch.manual_seed(0)
    first, second, x = RowSample(3, CPU), RowSample(3, CPU), torch.randn(2_000, 3)
    first(x)
    second(x)
    assert torch.equal(first.kept, second.kept)
    first.clear()
    assert not len(first.kept)
    first(x)
    assert torch.equal(first.kept, second.kept)


def test_wide_rows_are_fewer():
    sample = RowSample(2**14, CPU)
    sample(torch.ones(100, 2**14))
    assert sample.kept.shape == (32, 2**14)


def test_it_can_be_made_in_inference_mode_and_written_to_outside_of_it():
    with torch.inference_mode():
        sample = RowSample(2, CPU)
    sample(torch.ones(3, 2))
    assert torch.equal(sample.kept, torch.ones(3, 2))
