"""Making the nodes that take the place of one of ours."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.tape import Tape

__all__ = ["Array", "Builder", "array_of"]

Array = npt.NDArray[np.generic]


class Builder:
    """Nodes and constants in the order in which they are made.

    Args:
        names: new ones for values.
        sums_integers: as of `mono_quant_onnx.lowering.lower`.
    """

    def __init__(self, names: Iterator[str], *, sums_integers: bool) -> None:
        self.sums_integers = sums_integers
        self._names = names
        self.tape = Tape()

    def op(self, kind: str, *inputs: ir.Value, **attributes: int | list[int] | None) -> ir.Value:
        """The output of a new node, float32 unless it is given another type; attributes that are None are left out."""
        given = {name: value for name, value in attributes.items() if value is not None}
        output = ir.Value(name=next(self._names), type=ir.TensorType(ir.DataType.FLOAT))
        return self.tape.op(kind, inputs, given, output=output)

    def ops(self, kind: str, *inputs: ir.Value, outputs: int) -> list[ir.Value]:
        """The outputs of a new node that has several."""
        values = [ir.Value(name=next(self._names)) for _ in range(outputs)]
        return [*self.tape.op_multi_out(kind, inputs, outputs=values)]

    def constants(self, *tensors: Array | ir.TensorProtocol) -> list[ir.Value]:
        """Constants of the graph."""
        return [self.tape.initializer(_tensor(tensor), name=next(self._names)) for tensor in tensors]


def array_of(value: ir.Value | None) -> Array:
    """What a value is, where it is a constant of the graph.

    Raises:
        ValueError: when it is none.
    """
    if value is None or value.const_value is None:
        raise ValueError(f"{value} is no constant of the graph")
    return value.const_value.numpy()


def _tensor(tensor: Array | ir.TensorProtocol) -> ir.TensorProtocol:
    return tensor if isinstance(tensor, ir.TensorProtocol) else ir.tensor(tensor)
