"""A small trained model and its data, so that quantization can be tried offline.

>>> model = demo_model()
>>> images, labels = test_data()
>>> model(images).shape
torch.Size([599, 10])
"""

from mono_quant.demo.data import calibration_data, test_data
from mono_quant.demo.model import DigitsClassifier, demo_model

__all__ = ["DigitsClassifier", "calibration_data", "demo_model", "test_data"]
