"""The demo's handwritten digits, split into a training and a test part.

The file holds 1,797 digits: `images` uint8 [1797, 8, 8] with values 0..16 and
`labels` uint8 [1797] with values 0..9. NOTICE.md names their source and licence.

Digit i belongs to the test part when i is a multiple of 3 (599 digits), else to
the training part (1,198 digits).
"""

from importlib.resources import files

import torch
from safetensors.torch import load
from torch import Tensor

__all__ = ["calibration_data", "split_digits", "test_data"]

BATCH_SIZE = 32
CALIBRATION_BATCHES = 20
TEST_STRIDE = 3
MAX_VALUE = 16


def test_data() -> tuple[Tensor, Tensor]:
    """Return the digits held back from training and calibration.

    Images are float32 [599, 1, 8, 8] in 0..1, labels int64 [599].
    """
    _, test = split_digits(stored_digits())
    return test


def calibration_data() -> list[tuple[Tensor, Tensor]]:
    """Return the first 640 digits of the training part as 20 batches of 32.

    Each batch is (images float32 [32, 1, 8, 8] in 0..1, labels int64 [32]).
    """
    (images, labels), _ = split_digits(stored_digits())
    count = CALIBRATION_BATCHES * BATCH_SIZE
    return list(
        zip(
            torch.split(images[:count], BATCH_SIZE),
            torch.split(labels[:count], BATCH_SIZE),
            strict=True,
        )
    )


def split_digits(
    digits: dict[str, Tensor],
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Split digits as stored into (training, test), ready for the model.

    images uint8 [N, 8, 8] in 0..16 → float32 [n, 1, 8, 8] in 0..1;
    labels uint8 [N] → int64 [n].
    """
    images = digits["images"].unsqueeze(1).float() / MAX_VALUE
    labels = digits["labels"].long()
    is_test = torch.arange(len(labels)) % TEST_STRIDE == 0
    return (images[~is_test], labels[~is_test]), (images[is_test], labels[is_test])


def stored_digits() -> dict[str, Tensor]:
    """Read `images` and `labels` from the package's own file."""
    return load(files("mono_quant.demo").joinpath("digits.safetensors").read_bytes())
