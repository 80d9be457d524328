"""A module that runs a graph somewhere else, called as the model is that the graph was made of."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from mono_quant.errors import CompilationError
from torch import Tensor, nn

from mono_quant_onnx.signature import Signature

__all__ = ["OnnxModule"]


class OnnxModule(nn.Module):
    """Takes the arguments of the model as the example gave them, and gives what the model gives, in new tensors.

    Args:
        signature: of the model.
        names: of the inputs of the graph, in the order of the model's.
    """

    def __init__(self, signature: Signature, names: Sequence[str]) -> None:
        super().__init__()
        self._signature = signature
        self._names = [*names]
        self.eval()

    @abstractmethod
    def run(self, inputs: Mapping[str, Tensor]) -> Sequence[Tensor]:
        """The outputs of the graph, in its order.

        Args:
            inputs: by name, on the CPU, contiguous.
        """

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the model is called
        """As the model."""
        tensors = self._signature.tensors(args, kwargs)
        if len(tensors) != len(self._names):
            raise CompilationError(
                f"the graph has the inputs {self._names}, the model {len(tensors)}; please report this"
            )
        return self._signature.value(self.run(dict(zip(self._names, tensors, strict=True))))
