"""The real models as every contender gets them: tensors in, tensors out, in any number of rows."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, TypeAlias

import attrs
from torch import Tensor, nn

from tests.real_models import REAL_MODELS, ModelInput

__all__ = ["MODELS", "Inputs", "Model", "tensors"]

# A model's positional arguments.
Inputs: TypeAlias = tuple[Tensor, ...]


@attrs.frozen(kw_only=True)
class Model:
    """A model with its data and its task.

    Args:
        name: in `REAL_MODELS`.
        title: for people.
        arguments: names of its inputs, in order.
        varying: axes of each input that have another length from batch to batch.
        figure: of the task, by which it is judged.
        is_better_lower: whether less of it is better.
        drop: of it that the gate may cost.
        is_transformer: of which some peers want to be told.
        has_contenders: whether it is quantized by all of them, and not by the gate alone.
        output: the attribute of what the model returns that is looked at; empty for all of it.
    """

    name: str
    title: str
    arguments: tuple[str, ...]
    varying: tuple[int, ...] = (0,)
    figure: str
    is_better_lower: bool = False
    drop: float = 0.01
    is_transformer: bool = False
    has_contenders: bool = True
    output: str = ""

    def load(self) -> nn.Module:
        """In eval mode, with positional arguments."""
        model = self._real.load()
        wrapped = {"last_hidden_state": _HiddenStates, "logits": _Logits}.get(self.output)
        return model if wrapped is None else wrapped(model).eval()

    def calibration(self) -> list[Inputs]:
        """The batches that all contenders see."""
        return [self.inputs(batch) for batch in self._real.calibration()]

    def score(self, call: nn.Module, float_model: nn.Module) -> dict[str, float]:
        """Task figures of something that is called with the model's own arguments."""
        return self._real.score(_AsTheTaskCalls(self, call), _AsTheTaskCalls(self, float_model))

    def inputs(self, batch: ModelInput) -> Inputs:
        """By position."""
        return (batch,) if isinstance(batch, Tensor) else tuple(batch[name] for name in self.arguments)

    @property
    def _real(self) -> Any:  # noqa: ANN401 - a RealModel
        return next(model for model in REAL_MODELS if model.name == self.name)


_ALL = (
    Model(
        name="efficientnet_plain",
        title="EfficientNet-Lite0, plain convolutions: image classifier",
        arguments=("x",),
        figure="top1",
    ),
    Model(
        name="minilm",
        title="MiniLM-L6: sentence encoder",
        arguments=("input_ids", "attention_mask"),
        varying=(0, 1),
        figure="lee_pearson",
        is_transformer=True,
        output="last_hidden_state",
    ),
    Model(
        name="smollm2",
        title="SmolLM2-135M: language model",
        arguments=("input_ids",),
        varying=(0, 1),
        figure="perplexity",
        is_better_lower=True,
        drop=1.0,
        is_transformer=True,
        has_contenders=False,
        output="logits",
    ),
    Model(
        name="crepe",
        title="CREPE tiny: pitch tracker",
        arguments=("x",),
        figure="median_cents",
        is_better_lower=True,
        drop=0.1,
    ),
    Model(
        name="silero",
        title="Silero VAD: voice activity",
        arguments=("chunk", "hidden", "cell"),
        figure="accuracy",
    ),
    Model(
        name="resemblyzer",
        title="Resemblyzer: speaker encoder",
        arguments=("frames",),
        figure="equal_error_rate",
        is_better_lower=True,
    ),
)

MODELS = {model.name: model for model in _ALL}
"""By name, in the order of the page."""


def tensors(output: Tensor | Iterable[Tensor]) -> tuple[Tensor, ...]:
    """A model's output, one tensor or several."""
    return (output,) if isinstance(output, Tensor) else tuple(output)


class _HiddenStates(nn.Module):
    """The encoder without the pooler, which embeddings do not use; zero where there is padding."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        encoder.pooler = None
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states * attention_mask.unsqueeze(-1)


class _Logits(nn.Module):
    """A language model without its cache of keys and values."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, use_cache=False).logits


class _AsTheTaskCalls(nn.Module):
    """With names or without, and with the output that the task looks into."""

    def __init__(self, model: Model, call: nn.Module) -> None:
        super().__init__()
        self._model = model
        self._call = call

    def forward(self, *args: Tensor, **named: Tensor) -> object:
        rest = (named[name] for name in self._model.arguments[len(args) :]) if named else ()
        output = self._call(*args, *rest)
        return SimpleNamespace(**{self._model.output: output}) if self._model.output else output
