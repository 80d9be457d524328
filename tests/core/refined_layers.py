"""A layer quantized with and without an algorithm that chooses codes, and what that is worth on the data."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from correlated import correlated
from torch import Tensor, nn

from mono_quant import Quantizer
from mono_quant.result import QuantizationResult

__all__ = ["batches", "linear", "output_error", "plain", "refined", "tensors"]


def refined(algorithm: str, model: nn.Module, data: Any, scheme: Any, **options: object) -> QuantizationResult:  # noqa: ANN401
    """By the scheme, and then by the algorithm."""
    return Quantizer(
        scheme, algorithms=[{"name": algorithm, **options}], show_progress=False, validators=(), on_failure="ignore"
    ).quantize(model, data)


def plain(model: nn.Module, data: Any, scheme: Any) -> QuantizationResult:  # noqa: ANN401
    """By the scheme alone."""
    return Quantizer(scheme, algorithms=[], show_progress=False, validators=()).quantize(model, data)


def linear(columns: int = 24, rows: int = 16) -> nn.Sequential:
    """A float model of one layer."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(columns, rows)).eval()


def batches(columns: int = 24) -> list[Tensor]:
    """Data whose features go together."""
    return list(correlated(256, columns).split(64))


def output_error(model: nn.Module, result: QuantizationResult, data: list[Tensor]) -> float:
    """Squared, by the codes alone: the float layer with the weight that they stand for."""
    rounded = copy.deepcopy(model).double()
    rounded[0].weight.data = result.model[0].dequantized().double()
    with torch.no_grad():
        x = torch.cat(data).double()
        return float((rounded(x) - copy.deepcopy(model).double()(x)).square().sum())


def tensors(result: QuantizationResult) -> Mapping[str, Tensor]:
    """Of the quantized model."""
    return result.model.state_dict()
