"""The table of the README: real models quantized once, written, and run by transformers.

    python plugins/mono-quant-compressed-tensors/measure.py MODEL [SCHEME ...]

Run it in the folder of mono_quant's sources, whose tests know the models; ``tests/real_models/requirements.txt`` says
what they need. Prints a line for each scheme.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from mono_quant import Quantizer

sys.path.insert(0, str(Path.cwd()))
from tests.real_models import minilm, smollm2

MODELS = {"minilm": minilm, "smollm2": smollm2}
SCHEMES = {
    "int8-static": "int8-static",
    "int8-dynamic, per token": {"name": "int8-dynamic", "activations": "per-token"},
    "int8-weight-only": "int8-weight-only",
    "int4-weight-only, groups of 32": {"name": "int4-weight-only", "group_size": 32},
    "int4-weight-only, groups of 32, symmetric": {"name": "int4-weight-only", "group_size": 32, "symmetric": True},
    "float8-weight-only": "float8-weight-only",
}


def main() -> None:
    """Measure one model in all schemes, or in those that are named."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    module = MODELS[sys.argv[1]]
    for name in sys.argv[2:] or SCHEMES:
        measure(module, name)


def measure(module: object, name: str) -> None:
    """Quantize, write, read, score."""
    model = module.load().float()
    embeddings = [layer for layer, found in model.named_modules() if isinstance(found, torch.nn.Embedding)]
    weight_only = "weight-only" in name
    quantizer = Quantizer(
        SCHEMES[name], exclude=embeddings if weight_only else (), validators=(), algorithms=(), show_progress=False
    )
    result = quantizer.quantize(model, module.calibration() if name == "int8-static" else None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        model.config.save_pretrained(path)
        result.save(path, format="compressed-tensors")
        size = sum(file.stat().st_size for file in path.glob("*.safetensors")) / 2**20
        read = type(model).from_pretrained(path, dtype=torch.float32).eval()
        batch = module.held_back()
        with torch.inference_mode():
            reference, ours, theirs = (first(one(**batch)) for one in (model, result.model, read))
            scores = {"ours": module.score(result.model, model), "transformers": module.score(read, model)}
    line = {
        "model": sys.argv[1], "scheme": name, "layers": len(result.plan.layers), "MB": round(size, 1),
        "SQNR of ours to float": decibels(reference, ours),
        "SQNR of transformers to float": decibels(reference, theirs),
        "SQNR of transformers to ours": decibels(ours, theirs), **scores,
    }  # fmt: skip
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def first(output: object) -> torch.Tensor:
    """Logits or hidden states."""
    return output.logits if hasattr(output, "logits") else output.last_hidden_state


def decibels(expected: torch.Tensor, actual: torch.Tensor) -> float:
    """SQNR."""
    noise = (expected - actual).double().square().sum()
    return round(float(10 * torch.log10(expected.double().square().sum() / noise)), 1)


if __name__ == "__main__":
    main()
