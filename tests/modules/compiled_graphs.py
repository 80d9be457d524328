"""What the compiler is given: one graph without breaks, whose operators are noted."""

from collections import Counter

import torch
from torch import nn
from torch._dynamo.backends.debugging import aot_eager

__all__ = ["Noted", "operators_of"]


def operators_of(graph: torch.fx.Graph) -> Counter[str]:
    """How often each of our operators occurs."""
    operators = [node.target for node in graph.nodes if isinstance(node.target, torch._ops.OpOverload)]
    return Counter(one.name().removeprefix("mono_quant::") for one in operators if one.namespace == "mono_quant")


class Noted:
    """A model compiled without graph breaks; how often each of our operators occurs in the last graph.

    ``graphs`` counts how often the compiler gave one. For the first input it may do so twice.
    """

    def __init__(self, model: nn.Module, *, dynamic: bool | None = None) -> None:
        self.operators: Counter[str] = Counter()
        self.graphs = 0
        self._run = torch.compile(model, backend=self._backend, fullgraph=True, dynamic=dynamic)

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self._run(*args, **kwargs)

    def _backend(self, graph: torch.fx.GraphModule, inputs: list[object]) -> object:
        self.operators = operators_of(graph.graph)
        self.graphs += 1
        return aot_eager(graph, inputs)
