"""Whether a factor helps on rows that it was not found from, rounded as they will be.

The formula by which a divisor is chosen knows each channel as it was seen. New data go beyond that where the data that
were seen are few, and are clipped: the more so, the more channels a divisor lets reach the end of the range.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from mono_quant.core.affine import choose_qparams, dequantize, quantize
from mono_quant.core.encoding import decode, encode
from mono_quant.core.granularity import PerChannel, PerToken
from mono_quant.core.qtypes import INT8
from mono_quant.core.smoothing.reader import Reader
from mono_quant.core.smoothing.tried_channels import TriedChannels
from mono_quant.core.tensor_spec import TensorSpec, WeightSpec
from mono_quant.core.weights import quantize_weight

__all__ = ["error", "helps"]


def helps(readers: Sequence[Reader[TriedChannels]], divisor: Tensor) -> bool:
    """Whether the outputs on the rows held back are no further from float with it than without.

    Args:
        readers: all layers that read the input; the error of each counts as a part of its outputs.
        divisor: of the input, ``(K,)``, found from the other rows.
    """
    return sum(error(r, divisor) for r in readers) <= sum(error(r, torch.ones_like(divisor)) for r in readers)


def error(reader: Reader[TriedChannels], divisor: Tensor) -> float:
    """What rounding both sides costs the outputs on the rows held back, squared, as a part of the outputs.

    The range of the input is that of the other rows, unless each row or tensor has its own when the model runs.
    """
    weight, rows = reader.weight.float(), reader.inputs.held_back
    exact = rows @ weight.T
    power = float(exact.double().square().sum())
    found = _rounded(rows, divisor, reader) @ _stored((weight.double() * divisor).float(), reader.spec).T
    return float((found - exact).double().square().sum()) / power if power else 0.0


def _stored(weight: Tensor, spec: WeightSpec) -> Tensor:
    """What is left of a weight, float32; int8 beside quantized inputs keeps by default what is safe on every CPU."""
    if spec.dtype == INT8 and spec.symmetric and spec.granularity == PerChannel(0):
        codes, scale = quantize_weight(weight)
        return dequantize(codes, scale[:, None])
    return decode(encode(weight, spec), spec)


def _rounded(rows: Tensor, divisor: Tensor, reader: Reader[TriedChannels]) -> Tensor:
    spec = cast("TensorSpec", reader.input_spec)
    rows = (rows.double() / divisor).float()
    if isinstance(spec.granularity, PerToken):
        low, high = torch.aminmax(rows, dim=1, keepdim=True)
    else:
        seen = reader.inputs if spec.is_dynamic else reader.inputs.fitted
        ends = [end / divisor for end in seen.range]
        low, high = ends[0].amin(), ends[1].amax()
    scale, zero_point = choose_qparams(low, high, spec.dtype, symmetric=spec.symmetric)
    return dequantize(quantize(rows, scale, zero_point, spec.dtype), scale, zero_point)
