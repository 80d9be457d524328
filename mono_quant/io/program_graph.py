"""An exported program without what only its maker needs: half of its file, for small models."""

from collections.abc import Collection

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

__all__ = ["tidy"]

_ASSERT = torch.ops.aten._assert_tensor_metadata.default  # noqa: SLF001 - an operator's name
_CONVERT = torch.ops.aten.to.dtype


def tidy(program: ExportedProgram) -> None:
    """Take out where the code of the model lies, the numbers of the example, and steps that do nothing.

    Of the example, shapes and dtypes are left: compilers ask for them.
    """
    program.example_inputs = pytree.tree_map_only(
        Tensor, lambda tensor: tensor.new_zeros(()).expand(tensor.shape), program.example_inputs
    )
    inputs = set(program.graph_signature.user_inputs)
    for module in program.graph_module.modules():
        if isinstance(module, fx.GraphModule):
            for node in [*module.graph.nodes]:
                node.meta.pop("stack_trace", None)
                _take_out_if_idle(node, inputs)
            module.recompile()


def _take_out_if_idle(node: fx.Node, inputs: Collection[object]) -> None:
    """Take out a conversion to the dtype that is there, and an assertion about anything but an input."""
    given = node.args[0] if node.args else None
    if not isinstance(given, fx.Node):
        return
    if node.target is _ASSERT:
        is_idle = given.name not in inputs
    else:
        is_output = any(user.op == "output" for user in node.users)  # whose name the program keeps
        is_idle = node.target is _CONVERT and node.args[1:] == (_dtype(given),) and not node.kwargs and not is_output
    if is_idle:
        node.replace_all_uses_with(given)
        node.graph.erase_node(node)


def _dtype(node: fx.Node) -> torch.dtype | None:
    value = node.meta.get("val")
    return value.dtype if isinstance(value, Tensor) else None
