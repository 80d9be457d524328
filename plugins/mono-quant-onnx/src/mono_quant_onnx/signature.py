"""How a model is called: from its arguments to tensors, and from tensors to what it gives."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mono_quant.errors import CompilationError
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument
from torch.fx.experimental.symbolic_shapes import is_concrete_int
from torch.utils import _pytree as pytree

__all__ = ["Signature"]


class Signature:
    """The arguments of a model as an example gave them, and the structure of what it gives.

    Args:
        program: as it was exported; ``torch.onnx`` changes it.
    """

    def __init__(self, program: ExportedProgram) -> None:
        self._in_spec, self._out_spec = program.call_spec.in_spec, program.call_spec.out_spec
        signature = program.graph_signature
        # What is no tensor, as None or a number, is part of the graph.
        self._inputs = [spec.arg for spec in signature.input_specs if spec.kind.name == "USER_INPUT"]
        self._outputs = [spec.arg for spec in signature.output_specs if spec.kind.name == "USER_OUTPUT"]
        placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
        self._expected: dict[str, tuple[torch.dtype, list[int | None]]] = {}
        for arg in self._inputs:
            if not isinstance(arg, ConstantArgument):
                tensor = placeholders[arg.name].meta["val"]
                if tensor.dtype == torch.bfloat16:
                    raise CompilationError(f"input {arg.name!r} is bfloat16, which NumPy has not: give it as float32")
                sizes = [int(size) if is_concrete_int(size) else None for size in tensor.shape]
                self._expected[arg.name] = tensor.dtype, sizes

    def tensors(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
        """The tensors among the arguments of a call, in the order of the graph's inputs.

        Raises:
            CompilationError: naming what is not as it was in the example.
        """
        leaves, spec = pytree.tree_flatten((args, self._in_order(kwargs)))
        if spec != self._in_spec:
            raise CompilationError(
                f"compiled for a call with {_as_text(self._in_spec)}, called with {_as_text(spec)}: call it as the "
                "example did, with the same keywords, or compile it with an example of this call"
            )
        return [*self._tensors(leaves)]

    def value(self, outputs: Sequence[Tensor]) -> Any:  # noqa: ANN401 - whatever the model gives
        """What the model gives, of the graph's outputs."""
        tensors = iter(outputs)
        values = [arg.value if isinstance(arg, ConstantArgument) else next(tensors) for arg in self._outputs]
        return pytree.tree_unflatten(values, self._out_spec)

    def _tensors(self, leaves: Sequence[object]) -> Iterator[Tensor]:
        for arg, given in zip(self._inputs, leaves, strict=True):
            if isinstance(arg, ConstantArgument):
                if given is not arg.value and given != arg.value:
                    raise CompilationError(
                        f"{arg.name!r} is {arg.value!r} in the compiled model, got {given!r}: what is no tensor is "
                        "part of the graph; compile the model with an example of this call"
                    )
            elif not isinstance(given, Tensor):
                raise CompilationError(f"input {arg.name!r} must be a tensor, got {type(given).__name__}")
            else:
                self._refuse_another(arg.name, given)
                yield given.detach().contiguous()

    def _refuse_another(self, name: str, given: Tensor) -> None:
        dtype, sizes = self._expected[name]
        fits = given.ndim == len(sizes) and all(
            wanted in {None, size} for size, wanted in zip(given.shape, sizes, strict=True)
        )
        if given.dtype != dtype or not fits or given.device.type != "cpu":
            shape = ", ".join("any" if size is None else str(size) for size in sizes)
            raise CompilationError(
                f"input {name!r} was compiled as {dtype} of shape ({shape}) on the CPU, got {given.dtype} of shape "
                f"{tuple(given.shape)} on {given.device}: compile the model with an example like this"
            )

    def _in_order(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Keywords in the order of the example, where they are the same."""
        wanted = self._in_spec.child(1).context
        return {name: kwargs[name] for name in wanted} if set(wanted) == set(kwargs) else dict(kwargs)


def _as_text(spec: pytree.TreeSpec) -> str:
    positional, keywords = spec.child(0).num_children, spec.child(1).context
    return f"{positional} positional arguments" + (f" and the keywords {', '.join(keywords)}" if keywords else "")
