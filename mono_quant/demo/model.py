"""The demo's classifier of 8x8 handwritten digits, and its trained weights."""

from importlib.resources import files

import torch
from safetensors.torch import load
from torch import Tensor, nn

__all__ = ["DigitsClassifier", "demo_model"]


def demo_model() -> "DigitsClassifier":
    """Return the trained classifier, float32, on the CPU, in eval mode.

    The layers are built without storage and then given the stored tensors, so
    the global random state is left as it was.
    """
    with torch.device("meta"):
        model = DigitsClassifier()
    weights = files("mono_quant.demo").joinpath("weights.safetensors").read_bytes()
    model.load_state_dict(load(weights), assign=True)
    return model.eval()


class DigitsClassifier(nn.Module):
    """A convolutional network with the structures quantization has to handle.

    Each convolution has no bias and is followed directly by its BatchNorm, so
    all of them fold. Shapes for a batch of N images:

    ============  ====================================  ==============
    part          layers                                output
    ============  ====================================  ==============
    (input)       float32, values in 0..1               [N, 1, 8, 8]
    stem          two 3x3 convolutions, pooling         [N, 64, 4, 4]
    separable     depthwise 3x3, then pointwise 1x1     [N, 128, 4, 4]
    residual      3x3 convolution, added to its input   [N, 128, 4, 4]
    activation    ReLU of that sum                      [N, 128, 4, 4]
    pool          2x2 average                           [N, 128, 2, 2]
    head          two linear layers: the logits         [N, 10]
    ============  ====================================  ==============
    """

    def __init__(self) -> None:
        """Build the network with PyTorch's default initialisation."""
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 32, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.separable = nn.Sequential(
            nn.Conv2d(64, 64, kernel_size=3, padding=1, groups=64, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Conv2d(64, 128, kernel_size=1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
        )
        self.residual = nn.Sequential(
            nn.Conv2d(128, 128, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(128),
        )
        self.activation = nn.ReLU()
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(512, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map images float32 [N, 1, 8, 8] in 0..1 to logits float32 [N, 10]."""
        features = self.separable(self.stem(images))
        features = self.activation(features + self.residual(features))
        logits: Tensor = self.head(self.pool(features))
        return logits
