"""Taking a Llama's weights off the grid that its file had them on, without changing its function.

Weights that were 4-bit codes in groups of 32 are easy prey for whoever quantizes them so again. Their channels are
rescaled here in the ways that leave the function as it is: what one layer multiplies, the next divides.
"""

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

__all__ = ["leave_grid"]


@torch.no_grad()
def leave_grid(model: LlamaForCausalLM) -> None:
    """Rescale the input channels of every Linear in the model's layers, in place.

    The gains of the norms go into the columns of the projections that follow. Columns of ``down_proj`` and ``o_proj``
    are scaled for their largest weight to be as large as that of the rows of ``up_proj`` and ``v_proj`` before them.
    """
    queries_per_value = model.config.num_attention_heads // model.config.num_key_value_heads
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for norm, projections in (
            (layer.input_layernorm, (attention.q_proj, attention.k_proj, attention.v_proj)),
            (layer.post_attention_layernorm, (mlp.gate_proj, mlp.up_proj)),
        ):
            for projection in projections:
                projection.weight.mul_(norm.weight)
            norm.weight.fill_(1)
        _balance(mlp.up_proj.weight, mlp.down_proj.weight, torch.arange(len(mlp.up_proj.weight)))
        values = torch.arange(len(attention.v_proj.weight)).reshape(-1, 1, attention.head_dim)
        # A head of values serves several heads of queries, for each of which o_proj has columns.
        _balance(attention.v_proj.weight, attention.o_proj.weight, values.expand(-1, queries_per_value, -1).flatten())


def _balance(rows: Tensor, columns: Tensor, read: Tensor) -> None:
    """Scale rows up and the columns that read them down, or the other way about.

    Args:
        rows: ``(R, in)``.
        columns: ``(out, C)``.
        read: of each column, which row it reads, ``(C,)``.
    """
    largest = torch.zeros(len(rows)).scatter_reduce_(0, read, columns.abs().amax(dim=0), "amax")
    factor = (largest / rows.abs().amax(dim=1)).sqrt()
    rows.mul_(factor[:, None])
    columns.div_(factor[read])
