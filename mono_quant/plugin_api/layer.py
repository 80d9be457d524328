"""What a quantized layer tells of itself."""

from torch import Tensor, nn

from mono_quant.core.tensor_spec import TensorSpec, WeightSpec

__all__ = ["QuantizedLayer"]


class QuantizedLayer(nn.Module):
    """A layer with quantized parameters, as the built-in schemes make them, for who looks at a quantized model.

    To find them: ``{name: m for name, m in model.named_modules() if isinstance(m, QuantizedLayer)}``. A layer of a
    scheme that does not derive from it is not found.
    """

    weight_specs: dict[str, WeightSpec]
    """Quantized parameter → how it is stored."""

    input_spec: TensorSpec | None = None
    """How the input is quantized; None when it stays float."""

    @property
    def input_qparams(self) -> tuple[Tensor, Tensor] | None:
        """Scale and zero point of the input, ``()`` each; None when it stays float, or each input has its own."""
        return None

    def stored(self, name: str) -> dict[str, Tensor]:
        """The tensors of one quantized parameter, by suffix: ``""``, ``"_scale"``, ``"_zero_point"``."""
        raise NotImplementedError

    def dequantized(self, name: str = "weight") -> Tensor:
        """The float32 weight that the codes stand for, of the float parameter's shape."""
        raise NotImplementedError
