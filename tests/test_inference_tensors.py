"""What algorithms collect where a layer is first called in inference mode, and then outside of it."""

import pytest
import torch
from torch import Tensor, nn

from mono_quant import Quantizer


class Halves(nn.Module):
    """Half of its rows in inference mode."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            first = self.fc(x[:4])
        return torch.cat([first.clone(), self.fc(x[4:])])


@pytest.mark.parametrize("algorithm", ["smoothquant", "bias-correction", "gptq", "awq"])
def test_it_can_be_added_to(algorithm: str):
    scheme = "int4-weight-only" if algorithm == "awq" else "int8-static"
    scheme = {"name": scheme, "group_size": 16} if algorithm == "awq" else scheme
    data = [torch.randn(8, 16, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    result = Quantizer(
        scheme, algorithms=[algorithm], validators=(), show_progress=False, on_failure="ignore"
    ).quantize(Halves(), data)  # fmt: skip
    assert list(result.plan.layers) == ["fc"]


class Leaves(Halves):
    """All of its rows outside of inference mode, whoever calls it."""

    @torch.inference_mode(mode=False)
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.clone())


@pytest.mark.parametrize("algorithm", ["smoothquant", "bias-correction", "gptq"])
def test_a_run_inside_of_inference_mode_watches_a_model_that_leaves_it(algorithm: str):
    data = [torch.randn(8, 16, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    with torch.inference_mode():
        result = Quantizer(algorithms=[algorithm], validators=(), show_progress=False).quantize(Leaves(), data)
    assert list(result.plan.layers) == ["fc"]


@pytest.mark.parametrize("algorithm", ["smoothquant", "bias-correction", "gptq"])
def test_another_default_dtype_changes_nothing(algorithm: str):
    data = [torch.randn(8, 16, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    made = []
    for dtype in (torch.float32, torch.float64):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(16, 8))
        try:
            torch.set_default_dtype(dtype)
            result = Quantizer(algorithms=[algorithm], validators=(), show_progress=False).quantize(model, data)
        finally:
            torch.set_default_dtype(torch.float32)
        made.append(result.model.state_dict())
    assert all(torch.equal(tensor, made[1][name]) for name, tensor in made[0].items())
