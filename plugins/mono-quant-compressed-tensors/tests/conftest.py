"""Tests import `models`, which stands beside them."""

import logging
import sys
from pathlib import Path

import torch
import transformers

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
logging.getLogger("compressed_tensors").setLevel(logging.ERROR)
