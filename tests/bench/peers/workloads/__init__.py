"""What is run: five models, each at one or two shapes."""

from .record import Inputs, Workload

__all__ = ["WORKLOADS", "Inputs", "Workload"]

_ALL = (
    Workload(
        "resnet18",
        "ResNet-18 (11.7 M parameters, random weights)",
        {"batch 1": (1, 3, 224, 224), "batch 8": (8, 3, 224, 224)},
    ),
    Workload(
        "mobilenet_v2",
        "MobileNetV2 (3.5 M parameters, random weights)",
        {"batch 1": (1, 3, 224, 224)},
    ),
    Workload(
        "minilm",
        "MiniLM-L6, sentence encoder (22.7 M parameters, real weights and texts)",
        {"1 x 128 tokens": (1, 128), "16 x 128 tokens": (16, 128)},
    ),
    Workload(
        "llama",
        "Llama-like decoder (119 M parameters, random weights)",
        {"prefill of 128 tokens": (1, 128), "one token": (1, 1)},
    ),
    Workload(
        "mlp",
        "MLP 1024-4096-4096-1024 (25.2 M parameters, random weights)",
        {"batch 1": (1, 1024), "batch 64": (64, 1024)},
    ),
)

WORKLOADS = {workload.name: workload for workload in _ALL}
"""By name, in the order of the page."""
