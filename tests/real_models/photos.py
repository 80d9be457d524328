"""Photos with their ImageNet classes, and pictures without, from foolbox and scikit-image."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .assets import asset

__all__ = ["calibration_photos", "labelled_photos", "views"]

_SIDE = 256
_CROP = 224
_ZOOM = 202

# ImageNet classes that fairly name the main thing in a photo of scikit-image.
_LABELS = {
    "chelsea.png": {281, 282, 285},
    "coffee.png": {504, 967, 968},
    "motorcycle_left.png": {665, 670},
    "rocket.jpg": {657, 744, 812},
}

_UNLABELLED = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "cell.png",
    "clock_motion.png",
    "coins.png",
    "color.png",
    "grass.png",
    "gravel.png",
    "horse.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "page.png",
    "retina.jpg",
    "text.png",
)


def labelled_photos() -> list[tuple[Image.Image, set[int]]]:
    """24 RGB photos, each with the ImageNet classes that count as right."""
    imagenet = sorted(asset("foolbox", "foolbox/data").glob("imagenet_*.jpg"))
    return [(_open(path), {int(path.stem.rpartition("_")[2])}) for path in imagenet] + [
        (_open(asset("scikit-image", f"skimage/data/{name}")), labels) for name, labels in _LABELS.items()
    ]


def calibration_photos() -> list[Image.Image]:
    """16 RGB pictures that show none of the scenes of `labelled_photos`."""
    return [_open(asset("scikit-image", f"skimage/data/{name}")) for name in _UNLABELLED]


def views(photo: Image.Image) -> torch.Tensor:
    """Centre, its mirror image, two corners and a zoom: ``[5, 3, 224, 224]`` float32 in [0, 255]."""
    scale = _SIDE / min(photo.size)
    resized = photo.resize((max(_SIDE, round(photo.width * scale)), max(_SIDE, round(photo.height * scale))))
    left, top = (resized.width - _SIDE) // 2, (resized.height - _SIDE) // 2
    margin = _SIDE - _CROP
    centre = _pixels(_centre(resized, _CROP))
    return torch.stack(
        [
            centre,
            centre.flip(2),
            _pixels(resized.crop((left, top, left + _CROP, top + _CROP))),
            _pixels(resized.crop((left + margin, top + margin, left + _SIDE, top + _SIDE))),
            _pixels(_centre(resized, _ZOOM).resize((_CROP, _CROP))),
        ]
    )


def _open(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _centre(image: Image.Image, side: int) -> Image.Image:
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _pixels(image: Image.Image) -> torch.Tensor:
    """``[3, height, width]`` float32 in [0, 255]."""
    return torch.tensor(np.asarray(image), dtype=torch.float32).permute(2, 0, 1)
