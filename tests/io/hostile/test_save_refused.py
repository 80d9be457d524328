"""What could not be read again is not written: the reason is given, and no file is left behind."""

from pathlib import Path

import pytest
import torch
from small_models import mlp, quantize, rows
from torch import Tensor, nn

from mono_quant import load_model, save_model
from mono_quant.errors import ArtifactError
from mono_quant.io.limits import MOST_TENSORS

SUFFIXES = pytest.mark.parametrize("suffix", [".safetensors", ".pt"])


class Wrapper(Tensor):
    """Has no memory of its own."""

    @staticmethod
    def of(inner: Tensor) -> "Wrapper":
        return Tensor._make_wrapper_subclass(Wrapper, inner.shape, dtype=inner.dtype)

    @classmethod
    def __torch_dispatch__(cls, function: object, *_: object) -> None:
        raise NotImplementedError(function)


def nested() -> Tensor:
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)


@SUFFIXES
@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"x": torch.ones(1), "epoch": 3}, "'epoch' of the state_dict is a int"),
        ({"x": torch.ones(1), 3: torch.ones(1)}, "named 3, which is no text"),
        ({"x": torch.ones(1), None: torch.ones(1)}, "named None, which is no text"),
        ({"x": torch.ones(1), "\ud800": torch.ones(1)}, "no text that can be written"),
        ({"x": torch.ones(1), "odd": torch.eye(2).to_sparse()}, "'odd' is .*sparse"),
        ({"x": torch.ones(1), "odd": torch.empty(2, device="meta")}, "'odd' is .*meta"),
        ({"x": torch.ones(1), "odd": nested()}, "'odd' is a NestedTensor"),
        ({"x": torch.ones(1), "odd": Wrapper.of(torch.ones(2))}, "'odd' is a Wrapper"),
        ({"x": torch.ones(1), "odd": torch.ones([1] * 65)}, "'odd' has 65 dimensions"),
    ],
    ids=["a number", "named by a number", "named by nothing", "named by half a character", "sparse",
         "no data", "nested", "a wrapper", "65 dimensions"],
)  # fmt: skip
def test_a_state_that_cannot_be_read_again_is_not_written(
    state: dict[str, Tensor], words: str, suffix: str, tmp_path: Path
):
    path = tmp_path / f"model{suffix}"
    with pytest.raises(ArtifactError, match=words) as caught:
        save_model(state, path)
    assert str(path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@SUFFIXES
@pytest.mark.filterwarnings("ignore:Creating a tensor with dtype")
def test_a_tensor_of_a_quantized_dtype_is_not_written(suffix: str, tmp_path: Path):
    odd = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    with pytest.raises(ArtifactError, match=r"'odd' is .*qint8"):
        save_model({"x": torch.ones(1), "odd": odd}, tmp_path / f"model{suffix}")
    assert list(tmp_path.iterdir()) == []


@SUFFIXES
def test_more_tensors_than_are_read_are_not_written(suffix: str, tmp_path: Path):
    with pytest.raises(ArtifactError, match=f"{MOST_TENSORS + 1:,} tensors are more than the {MOST_TENSORS:,}"):
        save_model({str(i): torch.empty(0) for i in range(MOST_TENSORS + 1)}, tmp_path / f"model{suffix}")
    assert list(tmp_path.iterdir()) == []


@SUFFIXES
def test_text_that_is_larger_than_is_read_is_not_written(suffix: str, tmp_path: Path):
    with pytest.raises(ArtifactError, match="are the most"):
        save_model({"x" * 2**25: torch.ones(1)}, tmp_path / f"model{suffix}")
    assert list(tmp_path.iterdir()) == []


@SUFFIXES
@pytest.mark.parametrize("value", [float("inf"), float("nan"), [[[0.5, float("-inf")]]]], ids=str)
def test_a_recipe_with_a_number_that_json_has_not_is_not_written(value: object, suffix: str, tmp_path: Path):
    result = quantize(mlp(), rows(), validators=())
    result.model.mono_quant_manifest.config.scheme.options["k"] = value
    with pytest.raises(ArtifactError, match="cannot be written: its manifest is not JSON"):
        save_model(result.model, tmp_path / f"model{suffix}")
    assert list(tmp_path.iterdir()) == []


@SUFFIXES
def test_parameters_and_buffers_that_carry_attributes_are_written_as_plain_tensors(suffix: str, tmp_path: Path):
    path = tmp_path / f"model{suffix}"
    noted = nn.Parameter(torch.zeros(2))
    noted.note = "more than a tensor"
    save_model({"x": nn.Buffer(torch.ones(2)), "y": noted}, path)
    assert {name: tensor.tolist() for name, tensor in load_model(path).items()} == {"x": [1, 1], "y": [0, 0]}
