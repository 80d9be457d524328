"""Encoders of torch, whose fast paths lead around their layers and hand them nested tensors."""

import copy

import torch
from torch import nn

from mono_quant.calibration import run_calibration
from mono_quant.core.observers import MinMaxObserver


def test_observers_inside_an_encoder_see_what_its_layers_are_given_on_the_slow_path():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval()
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    batches = [{"src": torch.randn(2, 5, 8), "src_key_padding_mask": padding} for _ in range(3)]
    names = ["layers.0.linear1", "layers.1.linear2", "layers.1.norm1"]
    observers = run_calibration(model, batches, {name: MinMaxObserver("uint8") for name in names})

    slow, seen = copy.deepcopy(model), {name: [] for name in names}
    slow.use_nested_tensor = False
    for name, values in seen.items():
        slow.get_submodule(name).register_forward_pre_hook(lambda _, args, values=values: values.append(args[0]))
    with torch.no_grad():
        for batch in batches:
            slow(**batch)
    for name, values in seen.items():
        assert [float(end) for end in observers[name].range()] == [float(end) for end in torch.stack(values).aminmax()]
