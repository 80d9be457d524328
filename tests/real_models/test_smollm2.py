"""SmolLM2's weights leave the grid of 4 bits on which its file has them, its function stays."""

from typing import Protocol, cast

import pytest
import torch
from torch import Tensor, nn

from mono_quant.core.sqnr import sqnr_db

from . import SMOLLM2

pytestmark = pytest.mark.skipif(bool(SMOLLM2.missing), reason=f"smollm2 needs {', '.join(SMOLLM2.missing)}")

PROJECTIONS = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
]


class File(Protocol):
    def load_as_it_came(self) -> nn.Module: ...

    def score(self, model: nn.Module, float_model: nn.Module) -> dict[str, float]: ...


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    return {"as it came": cast("File", SMOLLM2._file).load_as_it_came(), "rescaled": SMOLLM2.load()}


def on_a_grid(weight: Tensor) -> Tensor:
    """The nearest of 16 steps from the smallest to the largest of each 32 neighbours: no step falls beside Q4_1's."""
    groups = weight.reshape(-1, 32)
    low, high = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
    step = (high - low) / 15
    return (low + step * ((groups - low) / step).round()).reshape(weight.shape)


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("layer", [0, 29])
def test_four_bits_hold_the_weights_as_they_came_and_no_longer(
    models: dict[str, nn.Module], layer: int, projection: str
) -> None:
    came, rescaled = (
        model.get_parameter(f"model.layers.{layer}.{projection}.weight").detach() for model in models.values()
    )
    assert sqnr_db(came, on_a_grid(came)) > 100
    assert sqnr_db(rescaled, on_a_grid(rescaled)) < 25


def test_the_function_is_the_same(models: dict[str, nn.Module]) -> None:
    figures = SMOLLM2.score(models["rescaled"], models["as it came"])
    of_itself = SMOLLM2.score(models["as it came"], models["as it came"])
    assert figures["perplexity"] == pytest.approx(of_itself["perplexity"], rel=1e-5)
    assert figures["agreement"] == 1


def test_the_head_is_tied_to_the_embedding(models: dict[str, nn.Module]) -> None:
    for model in models.values():
        assert model.get_parameter("lm_head.weight") is model.get_parameter("model.embed_tokens.weight")
    with torch.no_grad():
        assert models["rescaled"](input_ids=torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 49152)
