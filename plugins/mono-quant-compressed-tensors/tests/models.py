"""Tiny models of transformers with random weights, quantized, written and read."""

from pathlib import Path

import torch
from mono_quant import Batch, Quantizer
from mono_quant.plugin_api import QuantizedLayer
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

VOCABULARY = 61
INPUTS = {"input_ids": torch.randint(0, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(3))}

SCHEMES = {
    "int8-static": {"scheme": "int8-static"},
    "int8-dynamic by token": {"scheme": {"name": "int8-dynamic", "activations": "per-token"}},
    "int8-dynamic by tensor": {"scheme": "int8-dynamic"},
    "float8": {"scheme": "float8-weight-only"},
    "float8, groups": {"scheme": {"name": "float8-weight-only", "granularity": "per-group", "group_size": 16}},
    "float8, tensor": {"scheme": {"name": "float8-weight-only", "granularity": "per-tensor"}},
    "int8": {"scheme": "int8-weight-only"},
    "int8 asymmetric": {"scheme": {"name": "int8-weight-only", "symmetric": False}},
    "int5, tensor": {"scheme": {"name": "int5-weight-only", "granularity": "per-tensor"}},
    "int4 symmetric": {"scheme": {"name": "int4-weight-only", "symmetric": True, "group_size": 16}},
    **{f"int{bits}": {"scheme": {"name": f"int{bits}-weight-only", "group_size": 16}} for bits in range(2, 8)},
    "mixed": {
        "scheme": {"name": "int4-weight-only", "symmetric": True, "group_size": 16},
        "overrides": {
            "*.down_proj": {"scheme": "float8-weight-only"},
            "*.self_attn.*": {"scheme": {"name": "int8-dynamic", "activations": "per-token"}},
            "*.o_proj": {"scheme": "int8-weight-only"},
        },
    },
}
"""What a model may be quantized as, by a name of the case."""


def llama(dtype=torch.float32, *, tied=False):
    """A decoder of which no size is a power of two."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        intermediate_size=112,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config).to(dtype).eval()


def bert():
    """An encoder."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=48, intermediate_size=112, num_hidden_layers=2, num_attention_heads=4
    )
    return BertModel(config).eval()


def quantized(model, scheme, **options):
    """The result, its embeddings in float."""
    embeddings = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Embedding)]
    weight_only = "int8-" not in str(scheme) or "weight" in str(scheme)
    quantizer = Quantizer(
        scheme, exclude=embeddings if weight_only else (), validators=(), algorithms=(), show_progress=False, **options
    )
    return quantizer.quantize(model, [Batch((), INPUTS)] if scheme == "int8-static" else None)


def folder_of(model, result, path: Path, **options):
    """The folder with its configuration as transformers writes it, and then the quantized model."""
    model.config.save_pretrained(path)
    result.save(path, format={"name": "compressed-tensors", **options})
    return path


def layers_of(model):
    """Its quantized layers by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantizedLayer)}


def output(model):
    """Logits or hidden states, float32."""
    with torch.no_grad():
        found = model(**INPUTS)
    return (found.logits if hasattr(found, "logits") else found.last_hidden_state).float()
