"""Range and mean square of each channel, against the whole data at once in float64."""

import pytest
import torch

from mono_quant.core.smoothing.input_channels import InputChannels


def seen(*inputs: torch.Tensor) -> InputChannels:
    channels = InputChannels()
    for x in inputs:
        channels(x)
    return channels


def test_the_statistics_are_those_of_all_rows_at_once():
    inputs = [torch.randn(3, 4, 6) * 10, torch.randn(2, 6), torch.randn(6) - 50, torch.zeros(0, 6)]
    rows = torch.cat([x.reshape(-1, 6) for x in inputs]).double()
    channels = seen(*inputs)
    torch.testing.assert_close(torch.stack(channels.range), torch.stack(torch.aminmax(rows, dim=0)), rtol=0, atol=0)
    torch.testing.assert_close(channels.mean_square, rows.square().mean(0), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_inputs_of_other_float_dtypes_are_taken(dtype: torch.dtype):
    x = torch.randn(5, 3).to(dtype)
    torch.testing.assert_close(seen(x).mean_square, x.double().square().mean(0), rtol=1e-6, atol=0)


def test_huge_inputs_have_a_mean_square():
    assert torch.equal(seen(torch.full((2, 1), 1e38)).mean_square.isfinite(), torch.tensor([True]))


@pytest.mark.parametrize(
    "inputs", [[], [torch.zeros(0, 3)], [torch.zeros(4, 3)], [torch.tensor([[1.0, torch.nan]])],
    [torch.tensor([[1.0, torch.inf]])]], ids=["none", "empty", "zero", "nan", "infinite"]
)  # fmt: skip
def test_nothing_is_to_be_concluded_from_such_inputs(inputs: list[torch.Tensor]):
    assert not seen(*inputs).is_usable


def test_reading_before_any_data_is_refused():
    with pytest.raises(RuntimeError, match="no input"):
        _ = InputChannels().range
    with pytest.raises(RuntimeError, match="no input"):
        _ = InputChannels().mean_square
