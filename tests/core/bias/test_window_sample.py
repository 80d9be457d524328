"""The mean of all windows, and the sample."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mono_quant.core.bias.input_windows import InputWindows
from mono_quant.core.bias.window_sample import WindowSample
from mono_quant.core.bias.windows import per_channel, windows
from mono_quant.core.granularity import PerTensor
from mono_quant.core.qtypes import UINT8
from mono_quant.core.tensor_spec import TensorSpec

SPEC = TensorSpec(dtype=UINT8, symmetric=False, granularity=PerTensor())
NO_ENDS = torch.zeros(2)


def test_the_windows_of_a_convolution_are_those_of_unfold():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2))
    x = torch.randn(2, 3, 8, 9)
    expected = functional.unfold(x, (3, 2), dilation=(1, 2), padding=(1, 2), stride=(2, 1))
    assert torch.equal(windows(x, conv).flatten(3).flatten(1, 2).transpose(1, 2), expected)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_weight_on_the_mean_window_gives_the_mean_output(groups: int):
    torch.manual_seed(0)
    conv = nn.Conv1d(4, 8, 3, padding=2, groups=groups, bias=False).double()
    x = torch.rand(5, 4, 7, dtype=torch.float64)
    mean = windows(x, conv).mean(dim=(0, 1))
    with torch.no_grad():
        torch.testing.assert_close(per_channel(mean, conv.weight, groups), conv(x).mean(dim=(0, 2)))


def test_the_mean_does_not_depend_on_how_samples_come():
    torch.manual_seed(0)
    layer, x = nn.Conv1d(3, 2, 3, padding=1), torch.rand(24, 3, 9)
    means = []
    for size in (24, 6, 1):
        seen = InputWindows(layer, keeps_windows=False)
        for batch in x.split(size):
            seen(batch)
        means.append((seen.fitted.mean, seen.held_back.mean))
    for fitted, held_back in means:
        torch.testing.assert_close(fitted, means[0][0])
        torch.testing.assert_close(held_back, windows(x[1::4].double(), layer).mean(dim=(0, 1)))


def test_inputs_without_a_batch_count_as_one_sample_each():
    seen = InputWindows(nn.Conv1d(3, 2, 3), keeps_windows=True)
    for x in torch.rand(8, 3, 9):
        seen(x)
    assert (seen.fitted.count, seen.held_back.count) == (6 * 7, 2 * 7)


def test_an_empty_input_changes_nothing():
    seen = InputWindows(nn.Linear(4, 2), keeps_windows=True)
    seen(torch.empty(0, 4))
    assert not seen.is_usable
    with pytest.raises(RuntimeError, match="no input was seen"):
        _ = seen.fitted.mean


def sample_of(layer: nn.Module, batches: list[Tensor]) -> WindowSample:
    sample = WindowSample(layer, keeps_windows=True)
    for batch in batches:
        sample.add(batch, NO_ENDS)
    return sample


def test_memory_does_not_grow_with_batches():
    kept = sample_of(nn.Linear(4, 2), [torch.rand(500, 4) for _ in range(9)])._windows
    assert kept.shape == (1024, 4)
    kept = sample_of(nn.Linear(2**14, 1), [torch.rand(20, 2**14) for _ in range(9)])._windows
    assert kept.shape == (32, 2**14)


def test_each_window_is_as_likely_to_be_kept_whatever_its_batch():
    """Batches of 4000, 500 and 4500 rows, told apart by their numbers; kept in these proportions to 4 sigma."""
    batches = [torch.full((count, 4), float(number)) for number, count in enumerate((4000, 500, 4500))]
    kept = sample_of(nn.Linear(4, 2), batches)._windows
    for number, batch in enumerate(batches):
        share = len(batch) / 9000
        found = float((kept[:, 0] == number).double().mean())
        assert abs(found - share) < 4 * (share * (1 - share) / 1024) ** 0.5


def test_the_rounding_error_of_a_sample_is_near_that_of_all():
    torch.manual_seed(0)
    batches = [torch.rand(400, 6).square() for _ in range(20)]
    scale, zero_point = torch.tensor(0.2), torch.tensor(0, dtype=torch.int32)
    whole = torch.cat(batches).double()
    expected = (whole - (whole / float(scale)).round() * float(scale)).mean(dim=0)
    found = sample_of(nn.Linear(6, 2), batches).rounding_error(SPEC, (scale, zero_point))
    assert (found - expected).abs().max() < 4 * 0.2 / 12**0.5 / 1024**0.5


def test_the_share_of_the_mean_is_one_for_a_constant_and_none_for_what_is_centred():
    layer = nn.Linear(6, 2)
    x = torch.randn(50, 6)
    assert sample_of(layer, [torch.full((50, 6), 3.0)]).mean_share == pytest.approx(1)
    assert sample_of(layer, [x, -x]).mean_share == pytest.approx(0, abs=1e-12)
