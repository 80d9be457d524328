"""How a model is called: from its arguments to tensors, and from tensors to what it gives."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

import attrs
import torch
from mono_quant.errors import CompilationError
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument
from torch.fx.experimental.symbolic_shapes import is_concrete_int
from torch.utils import _pytree as pytree

__all__ = ["Signature"]


_Constant = bool | int | float | str | None


@attrs.frozen
class _Argument:
    """An argument that is a tensor, or else what is part of the graph.

    Args:
        name: of the input.
        dtype: of the tensor; None for what is none.
        sizes: of its axes; None for an axis of any size.
        value: of what is no tensor.
    """

    name: str
    dtype: torch.dtype | None = None
    sizes: tuple[int | None, ...] = ()
    value: _Constant = None


@attrs.frozen
class Signature:
    """The arguments of a model as an example gave them, and the structure of what it gives.

    Args:
        in_spec: structure of ``(args, kwargs)``.
        out_spec: structure of the output.
        inputs: the leaves of the first.
        outputs: those of the second: ``()`` for a tensor, or a tuple of a value that is part of the graph.
    """

    in_spec: pytree.TreeSpec
    out_spec: pytree.TreeSpec
    inputs: tuple[_Argument, ...]
    outputs: tuple[tuple[()] | tuple[_Constant], ...]
    _plain_arguments: int | None = attrs.field(init=False, eq=False)
    """How many positional arguments there are, where there are no others and each is one tensor or constant."""

    @_plain_arguments.default
    def _count_plain(self) -> int | None:
        count = len(self.inputs)
        is_plain = self.in_spec == pytree.tree_structure(((0,) * count, {}))
        return count if is_plain else None

    @classmethod
    def of(cls, program: ExportedProgram) -> Self:
        """That of a program as it was exported; ``torch.onnx`` changes it."""
        signature = program.graph_signature
        placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
        inputs = (spec.arg for spec in signature.input_specs if spec.kind.name == "USER_INPUT")
        outputs = (spec.arg for spec in signature.output_specs if spec.kind.name == "USER_OUTPUT")
        return cls(
            program.call_spec.in_spec,
            program.call_spec.out_spec,
            tuple(_argument(arg, placeholders) for arg in inputs),
            tuple((arg.value,) if isinstance(arg, ConstantArgument) else () for arg in outputs),
        )

    @classmethod
    def from_text(cls, text: str) -> Self:
        """What `to_text` has made.

        Raises:
            Exception: when it is something else.
        """
        data = json.loads(text)
        inputs = tuple(
            _Argument(name, None if dtype is None else _dtype(dtype), tuple(sizes), value)
            for name, dtype, sizes, value in data["inputs"]
        )
        in_spec, out_spec = (pytree.treespec_loads(data[key]) for key in ("in", "out"))
        return cls(in_spec, out_spec, inputs, tuple(map(tuple, data["outputs"])))

    def to_text(self) -> str:
        """As JSON.

        Raises:
            CompilationError: when the call has structures that torch cannot write as JSON.
        """
        inputs = [
            [one.name, None if one.dtype is None else str(one.dtype).removeprefix("torch."), one.sizes, one.value]
            for one in self.inputs
        ]
        try:
            specs = {"in": pytree.treespec_dumps(self.in_spec), "out": pytree.treespec_dumps(self.out_spec)}
            return json.dumps({**specs, "inputs": inputs, "outputs": self.outputs}, sort_keys=True)
        except (TypeError, ValueError, NotImplementedError) as error:
            raise CompilationError(f"how it is called and what it gives cannot be written as JSON: {error}") from error

    def tensors(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
        """The tensors among the arguments of a call, in the order of the graph's inputs.

        Raises:
            CompilationError: naming what is not as it was in the example.
        """
        if not kwargs and len(args) == self._plain_arguments:  # half of the time of a call is saved
            return self._tensors(args)
        leaves, spec = pytree.tree_flatten((args, self._in_order(kwargs)))
        if spec != self.in_spec:
            raise CompilationError(
                f"compiled for a call with {_as_text(self.in_spec)}, called with {_as_text(spec)}: call it as the "
                "example did, with the same keywords, or compile it with an example of this call"
            )
        return self._tensors(leaves)

    def value(self, outputs: Sequence[Tensor]) -> Any:  # noqa: ANN401 - whatever the model gives
        """What the model gives, of the graph's outputs."""
        if self.outputs == ((),) and self.out_spec.is_leaf():
            return outputs[0]
        tensors = iter(outputs)
        values = [constant[0] if constant else next(tensors) for constant in self.outputs]
        return pytree.tree_unflatten(values, self.out_spec)

    def _tensors(self, leaves: Sequence[Any]) -> list[Tensor]:
        for arg, given in zip(self.inputs, leaves, strict=True):
            _refuse_another(arg, given)
        return [x.detach().contiguous() for x in leaves if isinstance(x, Tensor)]

    def _in_order(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Keywords in the order of the example, where they are the same."""
        wanted = self.in_spec.child(1).context
        return {name: kwargs[name] for name in wanted} if set(wanted) == set(kwargs) else dict(kwargs)


def _argument(arg: Any, placeholders: Mapping[str, Any]) -> _Argument:  # noqa: ANN401 - of a graph's signature
    if isinstance(arg, ConstantArgument):
        return _Argument(arg.name, value=arg.value)
    tensor = placeholders[arg.name].meta["val"]
    if tensor.dtype == torch.bfloat16:
        raise CompilationError(f"input {arg.name!r} is bfloat16, which NumPy has not: give it as float32")
    return _Argument(arg.name, tensor.dtype, tuple(int(n) if is_concrete_int(n) else None for n in tensor.shape))


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name)
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{name!r} is no dtype of torch")
    return dtype


def _refuse_another(expected: _Argument, given: Any) -> None:  # noqa: ANN401 - whatever the model is called with
    """Refuse what is not as it was in the example; a tensor of the same shape at first sight, since calls are many."""
    if expected.dtype is None:
        if given is not expected.value and (isinstance(given, Tensor) or given != expected.value):
            raise CompilationError(
                f"{expected.name!r} is {expected.value!r} in the compiled model, got {given!r}: what is no tensor is "
                "part of the graph; compile the model with an example of this call"
            )
        return
    if not isinstance(given, Tensor):
        raise CompilationError(f"input {expected.name!r} must be a tensor, got {type(given).__name__}")
    fits = given.shape == expected.sizes or (
        given.ndim == len(expected.sizes)
        and all(wanted in {None, size} for size, wanted in zip(given.shape, expected.sizes, strict=True))
    )
    if given.dtype != expected.dtype or not fits or not given.is_cpu:
        shape = ", ".join("any" if size is None else str(size) for size in expected.sizes)
        raise CompilationError(
            f"input {expected.name!r} was compiled as {expected.dtype} of shape ({shape}) on the CPU, "
            f"got {given.dtype} of shape {tuple(given.shape)} on {given.device}: compile the model with an example "
            "like this"
        )


def _as_text(spec: pytree.TreeSpec) -> str:
    positional, keywords = spec.child(0).num_children, spec.child(1).context
    return f"{positional} positional arguments" + (f" and the keywords {', '.join(keywords)}" if keywords else "")
