"""A Llama-like model and its tokenizer out of a GGUF file, as transformers and tokenizers build them."""

from pathlib import Path

import torch
from gguf import GGUFReader, dequantize
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

__all__ = ["llama_of", "tokenizer_of"]

_BLOCK = "blk"
_OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
_INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def llama_of(path: Path) -> LlamaForCausalLM:
    """The model, its weights in float32; the head is tied to the embedding. It keeps no keys and values."""
    reader = GGUFReader(path)
    config = _config(reader)
    weights: dict[str, Tensor] = {}
    for tensor in reader.tensors:
        weight = torch.tensor(dequantize(tensor.data, tensor.tensor_type), dtype=torch.float32)
        name, *inner = tensor.name.removesuffix(".weight").split(".")
        if name != _BLOCK:
            weights[f"{_OUTER[name]}.weight"] = weight
            continue
        layer, kind = inner
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
        if kind in heads:
            weight = _halves_together(weight, heads[kind])
        weights[f"model.layers.{layer}.{_INNER[kind]}.weight"] = weight
    model = LlamaForCausalLM(config)
    model.load_state_dict(weights | {"lm_head.weight": weights["model.embed_tokens.weight"]})
    return model


def tokenizer_of(path: Path) -> Tokenizer:
    """Byte-level BPE, each digit a token."""
    fields = GGUFReader(path).fields
    tokens, merges = (fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "merges"))
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: number for number, token in enumerate(tokens)},
            merges=[tuple(merge.split(" ")) for merge in merges],
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _config(reader: GGUFReader) -> LlamaConfig:
    def value(name: str) -> float:
        return reader.fields[f"llama.{name}"].contents()

    return LlamaConfig(
        vocab_size=value("vocab_size"),
        hidden_size=value("embedding_length"),
        intermediate_size=value("feed_forward_length"),
        num_hidden_layers=value("block_count"),
        num_attention_heads=value("attention.head_count"),
        num_key_value_heads=value("attention.head_count_kv"),
        max_position_embeddings=value("context_length"),
        rms_norm_eps=value("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": value("rope.freq_base")},
        tie_word_embeddings=True,
        use_cache=False,
    )


def _halves_together(weight: Tensor, heads: int) -> Tensor:
    """Rows of each head as transformers rotates them, half against half; the file has them pair by pair."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)
