"""The user's model is never changed, whatever happens."""

from collections.abc import Callable, Iterator

import pytest
import torch
from small_models import ConvNet, images, quantize
from torch import Tensor, nn

from mono_quant import Quantizer, hookimpl
from mono_quant.core.schemes import Int8Static
from mono_quant.errors import (
    CalibrationError,
    ConfigurationError,
    UnknownPluginError,
    UnsupportedLayerError,
    ValidationError,
)
from mono_quant.plugin_api import SchemeSpec


class FailingScheme(Int8Static):
    """Converts one layer and fails at the second."""

    name = "failing"
    converted = 0

    def convert(self, module: nn.Module, *args: object) -> nn.Module:
        self.converted += 1
        if self.converted == 2:
            message = "planted"
            raise ArithmeticError(message)
        return super().convert(module, *args)


class FailingPlugin:
    @hookimpl
    def mono_quant_schemes(self) -> list[SchemeSpec]:
        return [SchemeSpec(name="failing", summary="fails", factory=FailingScheme)]


class WithHooks(ConvNet):
    """In a mixed training mode, with hooks and a tensor that must not be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self.train()
        self.bn.eval()
        self.conv.weight.requires_grad_(False)  # noqa: FBT003 - torch's own signature
        self.head.register_forward_hook(self.count)
        self.conv.register_forward_pre_hook(lambda *_: None)
        self.conv.weight.grad = None
        self.head.weight.grad = torch.ones_like(self.head.weight)

    def count(self, *_: object) -> None:
        self.seen += 1


def snapshot(model: nn.Module) -> object:
    """Everything of a model but Python counters: bits, identities, modes, hooks, attributes."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return (
        [(name, id(value), value.detach().numpy().tobytes(), value.requires_grad) for name, value in tensors],
        [(name, None if value.grad is None else value.grad.numpy().tobytes()) for name, value in tensors],
        [(name, id(module), module.training, [*vars(module)], hooks(module)) for name, module in model.named_modules()],
    )


def hooks(module: nn.Module) -> list[tuple[str, list[int]]]:
    return [(key, [*table]) for key, table in vars(module).items() if key.endswith(("_hooks", "_kwargs", "_called"))]


def interrupted(kind: type[BaseException]) -> Iterator[Tensor]:
    yield images()[0]
    raise kind


def poisoned() -> nn.Module:
    model = WithHooks()
    model.head.weight.data[0, 0] = torch.nan
    return model


Failure = tuple[type[BaseException], Callable[[], nn.Module], Callable[[], object], dict[str, object]]

FAILURES: dict[str, Failure] = {
    "no data": (ConfigurationError, WithHooks, lambda: None, {}),
    "empty data": (CalibrationError, WithHooks, list, {}),
    "misshapen data": (CalibrationError, WithHooks, lambda: [images()[0], torch.ones(4, 2, 8, 8)], {}),
    "data of no kind": (CalibrationError, WithHooks, lambda: [object()], {}),
    "infinite data": (CalibrationError, WithHooks, lambda: [torch.full((4, 3, 8, 8), torch.inf)], {}),
    "data that fails": (OSError, WithHooks, lambda: interrupted(OSError), {}),
    "interrupt": (KeyboardInterrupt, WithHooks, lambda: interrupted(KeyboardInterrupt), {}),
    "nothing selected": (ConfigurationError, WithHooks, images, {"exclude": ["*"]}),
    "bad validation": (ValidationError, WithHooks, images, {"validators": [{"name": "sqnr", "minimum": 999.0}]}),
    "unknown observer": (UnknownPluginError, WithHooks, images, {"observer": "none-such"}),
    "unknown validator": (UnknownPluginError, WithHooks, images, {"validators": ["none-such"]}),
    "failing scheme": (ArithmeticError, WithHooks, images, {"scheme": "failing", "plugins": [FailingPlugin()]}),
    "weights not finite": (UnsupportedLayerError, poisoned, images, {}),
}


@pytest.mark.parametrize("inplace", [False, True], ids=["copy", "in place"])
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
def test_a_failure_leaves_the_model_as_it_was(failure: Failure, inplace: bool):  # noqa: FBT001
    error, make, data, options = failure
    model = make()
    before = snapshot(model)
    with pytest.raises(error):
        quantize(model, data(), inplace=inplace, **options)
    assert snapshot(model) == before


def test_success_leaves_the_model_as_it_was():
    model = WithHooks()
    before = snapshot(model)
    quantize(model, images())
    assert snapshot(model) == before


def test_planning_leaves_the_model_as_it_was():
    model = WithHooks()
    before = snapshot(model)
    Quantizer().plan(model)
    assert snapshot(model) == before


def test_a_hook_that_raises_leaves_the_model_as_it_was():
    model = WithHooks()

    def refuse(*_: object) -> None:
        message = "not today"
        raise RuntimeError(message)

    model.bn.register_forward_hook(refuse)
    before = snapshot(model)
    with pytest.raises(RuntimeError, match="not today"):
        quantize(model, images())
    assert snapshot(model) == before


def test_the_quantized_model_shares_no_tensor_with_the_model():
    model = WithHooks()
    result = quantize(model, images(), algorithms=(), include=["head"])
    for value in (*result.model.parameters(), *result.model.buffers()):
        if value.is_floating_point():
            value.data.zero_()
    assert all(bool(value.any()) for value in model.parameters())


def test_the_quantized_model_is_in_eval_mode_whatever_the_model_was_in():
    model = WithHooks()
    result = quantize(model, images())
    assert any(module.training for module in model.modules())
    assert not any(module.training for module in result.model.modules())


def test_hooks_of_a_quantized_layer_go_on_and_act_on_the_quantized_model():
    model = WithHooks()
    result = quantize(model, images(), validators=())
    before = (model.seen, result.model.seen)
    result.model(images()[0])
    assert (model.seen, result.model.seen) == (before[0], before[1] + 1)
