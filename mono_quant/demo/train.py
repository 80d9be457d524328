"""Reproduce the demo's two files: ``python -m mono_quant.demo.train``.

Needs scikit-learn, for its copy of the digits, and under two minutes on one CPU
core. The seed is fixed, PyTorch runs one thread and deterministic algorithms
only: on one machine, with the same versions, two runs give byte-identical files.
Another CPU or PyTorch may round differently, and so give other weights.
"""

# scikit-learn has no types, and is not a dependency of the package.
# mypy: disable-error-code="import-not-found, import-untyped"

import argparse
import logging
import math
from pathlib import Path

import torch
from safetensors.torch import save
from sklearn.datasets import load_digits
from torch import Tensor, nn

from mono_quant.demo.data import split_digits
from mono_quant.demo.model import DigitsClassifier

__all__ = ["main"]

SEED = 0
EPOCHS = 60
BATCH_SIZE = 64
PEAK_LEARNING_RATE = 5e-3
WEIGHT_DECAY = 1e-2
LABEL_SMOOTHING = 0.05

# One metadata entry a file: safetensors does not promise the order of several.
DIGITS_NOTICE = (
    "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, 1998, "
    "UCI Machine Learning Repository, https://doi.org/10.24432/C50P49, CC BY 4.0 "
    "(https://creativecommons.org/licenses/by/4.0/); the 1,797 digits that "
    "scikit-learn distributes, stored as uint8, otherwise unchanged."
)
WEIGHTS_NOTICE = "Trained by mono_quant.demo.train on digits.safetensors."

logger = logging.getLogger(__name__)


def main() -> None:
    """Write digits.safetensors and weights.safetensors; log the test accuracy."""
    parser = argparse.ArgumentParser(description="Reproduce the demo's files.")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).parent,
        metavar="DIR",
        help="folder for the two files (default: this package)",
    )
    output: Path = parser.parse_args().output
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(1)
    torch.manual_seed(SEED)

    digits = sklearn_digits()
    (images, labels), (test_images, test_labels) = split_digits(digits)
    model = train(images, labels)
    accuracy = (model(test_images).argmax(1) == test_labels).float().mean().item()
    logger.info("test accuracy %.2f %%", 100 * accuracy)

    output.mkdir(parents=True, exist_ok=True)
    for name, tensors, notice in (
        ("digits.safetensors", digits, DIGITS_NOTICE),
        ("weights.safetensors", model.state_dict(), WEIGHTS_NOTICE),
    ):
        (output / name).write_bytes(save(tensors, {"notice": notice}))


def sklearn_digits() -> dict[str, Tensor]:
    """Return `images` uint8 [1797, 8, 8] in 0..16 and `labels` uint8 [1797]."""
    digits = load_digits()
    return {
        "images": torch.from_numpy(digits.images).to(torch.uint8),
        "labels": torch.from_numpy(digits.target).to(torch.uint8),
    }


def train(images: Tensor, labels: Tensor) -> DigitsClassifier:
    """Fit a classifier to images [N, 1, 8, 8] and labels [N]; return it in eval mode.

    AdamW under a one-cycle learning rate, each batch shifted at random.
    """
    model = DigitsClassifier()
    loss_function = nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=PEAK_LEARNING_RATE,
        epochs=EPOCHS,
        steps_per_epoch=math.ceil(len(labels) / BATCH_SIZE),
    )
    for epoch in range(EPOCHS):
        for batch in torch.split(torch.randperm(len(labels)), BATCH_SIZE):
            loss = loss_function(model(shifted(images[batch])), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        logger.info("epoch %d/%d, last loss %.4f", epoch + 1, EPOCHS, loss.item())
    return model.eval()


def shifted(images: Tensor) -> Tensor:
    """Move each image of [N, 1, 8, 8] by -1, 0 or 1 pixel along each axis.

    Pixels that come in from outside are empty (0).
    """
    count, _, height, width = images.shape
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    top, left = torch.randint(3, (2, count, 1, 1))
    rows = top + torch.arange(height).view(1, -1, 1)
    columns = left + torch.arange(width).view(1, 1, -1)
    sample = torch.arange(count).view(-1, 1, 1)
    return padded[sample, 0, rows, columns].unsqueeze(1)


if __name__ == "__main__":
    main()
