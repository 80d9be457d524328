"""A linear layer that reads the tensor for which a factor is wanted."""

from typing import Generic, TypeVar

import attrs
from torch import Tensor

from mono_quant.core.smoothing.inputs import Inputs
from mono_quant.core.tensor_spec import TensorSpec, WeightSpec

__all__ = ["Reader"]

SeenT_co = TypeVar("SeenT_co", bound=Inputs, covariant=True)
"""What is collected of its inputs."""


@attrs.frozen(eq=False)
class Reader(Generic[SeenT_co]):
    """One of the layers that read it.

    Args:
        weight: float ``(R, K)``.
        spec: how it is stored.
        input_spec: how the input is quantized; None where it is not.
        inputs: what was seen of them.
    """

    weight: Tensor
    spec: WeightSpec
    input_spec: TensorSpec | None
    inputs: SeenT_co
