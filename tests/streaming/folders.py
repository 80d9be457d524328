"""Small folders with the weights of a Llama, as Hugging Face lays them out."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

__all__ = ["contents", "llama", "write_folder"]


def llama(
    *, hidden: int = 64, layers: int = 3, vocabulary: int = 1000, dtype: torch.dtype = torch.bfloat16
) -> dict[str, Tensor]:
    """Its ``state_dict``."""
    generator = torch.Generator().manual_seed(0)

    def weight(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    state = {"model.embed_tokens.weight": weight(vocabulary, hidden)}
    for layer in range(layers):
        name = f"model.layers.{layer}"
        for projection in ("q_proj", "k_proj", "v_proj", "o_proj"):
            rows = hidden if projection in {"q_proj", "o_proj"} else hidden // 4
            state[f"{name}.self_attn.{projection}.weight"] = weight(rows, hidden)
        state[f"{name}.self_attn.q_proj.bias"] = weight(hidden)
        state[f"{name}.mlp.gate_proj.weight"] = weight(hidden * 3, hidden)
        state[f"{name}.mlp.up_proj.weight"] = weight(hidden * 3, hidden)
        state[f"{name}.mlp.down_proj.weight"] = weight(hidden, hidden * 3)
        state[f"{name}.input_layernorm.weight"] = weight(hidden)
    return {**state, "model.norm.weight": weight(hidden), "lm_head.weight": weight(vocabulary, hidden)}


def write_folder(folder: Path, state: Mapping[str, Tensor], shards: int = 3) -> Path:
    """Weights in so many files, in the order of their names' turns, and what else such a folder has."""
    folder.mkdir(parents=True)
    names = list(state)
    size = -(-len(names) // shards)
    weight_map = {}
    for number in range(shards):
        some = names[number * size : (number + 1) * size]
        file = "model.safetensors" if shards == 1 else f"model-{number + 1:05}-of-{shards:05}.safetensors"
        save_file({name: state[name] for name in some}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(some, file)
    if shards > 1:
        total = sum(tensor.nbytes for tensor in state.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    config = {"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer.json").write_text('{"version": "1.0"}', encoding="utf-8")
    (folder / "extra").mkdir()
    (folder / "extra" / "template.txt").write_bytes(b"\x00\xff\n")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """All files in a folder, hidden ones too: relative name → bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
