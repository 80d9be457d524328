"""Runtimes with one bug each."""

import copy
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mono_quant.core.tensors import iter_tensors, map_tensors
from mono_quant.modules import KernelModule, to_float
from mono_quant.plugin_api import Batch, Runtime, Support
from mono_quant.runtimes.agreement import on_reference_kernels
from mono_quant.testing import RuntimeSuite, adversarial

FINDS: dict[type[RuntimeSuite], str] = {}
Call = Callable[..., Any]
WORST = "test_layers_with_the_worst_weights_and_inputs_equal_integer_arithmetic"
MODELS = "test_models_give_what_the_reference_kernels_give"
SUPPORTS = "test_it_supports_what_it_is_tested_with"
UNCHANGED = "test_it_changes_neither_the_model_nor_the_inputs"
MEMORY = "test_outputs_are_new_memory"
OTHER_SIZE = "test_a_batch_of_another_size_runs"


class Run(nn.Module):
    """A function as a module."""

    def __init__(self, run: Call) -> None:
        super().__init__()
        self.run = run

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)


class Right(Runtime):
    """A copy on the reference kernels, called by a function that a bug can take the place of."""

    def compile(self, model: nn.Module, example: Batch) -> nn.Module:
        copied = copy.deepcopy(model)
        for layer in copied.modules():
            if isinstance(layer, KernelModule):
                self.change(layer)
        return Run(self.calling(on_reference_kernels(copied), example))

    def change(self, layer: KernelModule) -> None:
        """A layer of the copy, before it is used."""

    def calling(self, model: nn.Module, example: Batch) -> Call:
        return model


def planted(test: str, **declared: Any) -> Any:
    def wrap(runtime: type[Runtime]) -> type[Runtime]:
        def models(self: RuntimeSuite) -> Any:
            return {name: RuntimeSuite.models(self)[name] for name in ("convolutions", "sequences")}

        members = {
            "geometries": [adversarial.GEOMETRIES[number] for number in (4, 12, 20)],
            "models": models,
            "make": lambda self: runtime(),
            "__module__": __name__,
            **declared,
        }
        suite = type(f"Test{runtime.__name__}", (RuntimeSuite,), members)
        globals()[suite.__name__] = suite
        FINDS[suite] = test
        return runtime

    return wrap


planted("")(Right)


@planted(MODELS, sums_floats=True)
class TakesFloatInputs(Right):
    """No codes at all: exact where an input happens to be one."""

    def compile(self, model: nn.Module, example: Batch) -> nn.Module:
        return to_float(model)


@planted(WORST)
class ForgetsTheZeroPoint(Right):
    def change(self, layer: KernelModule) -> None:
        layer.input_zero_point.zero_()


@planted(WORST)
class PadsWithTheCodeZero(Right):
    """And not with the code of zero."""

    def change(self, layer: KernelModule) -> None:
        if layer.kind != "linear":
            stride, padding, *rest = layer.geometry
            layer.geometry = (stride, (0,) * len(padding), *rest)
            sides = [side for pad in reversed(padding) for side in (pad, pad)]
            value = -float(layer.input_zero_point * layer.input_scale)
            layer.register_forward_pre_hook(lambda _, args: functional.pad(args[0], sides, value=value))


@planted(WORST)
class HasOneScaleForAllWeights(Right):
    def change(self, layer: KernelModule) -> None:
        scale = layer.weight_scale
        weight = layer.weight * (scale / scale.max()).reshape(-1, *[1] * (layer.weight.ndim - 1))
        layer.weight.copy_(weight.round())
        scale.fill_(scale.max())


@planted(WORST)
class RoundsTheBias(Right):
    """To whole steps, as int32 codes are, and does not declare it."""

    def change(self, layer: KernelModule) -> None:
        if layer.bias is not None:
            step = layer.weight_scale * layer.input_scale
            layer.bias.copy_((layer.bias / step).round() * step)


@planted(WORST)
class RoundsOutputsToFloat16(Right):
    def calling(self, model: nn.Module, example: Batch) -> Call:
        return lambda *args, **kwargs: map_tensors(lambda y: y.half().float(), model(*args, **kwargs))


@planted(MODELS)
class RoundsInputsDown(Right):
    def change(self, layer: KernelModule) -> None:
        half = 0.499 * float(layer.input_scale)
        layer.register_forward_pre_hook(lambda _, args: args[0] - half)


@planted(MODELS)
class GivesAList(Right):
    def calling(self, model: nn.Module, example: Batch) -> Call:
        return lambda *args, **kwargs: list(iter_tensors(model(*args, **kwargs)))


@planted(MODELS)
class NamesTheOutputs(Right):
    def calling(self, model: nn.Module, example: Batch) -> Call:
        def run(*args: Any, **kwargs: Any) -> Any:
            y = model(*args, **kwargs)
            return y if isinstance(y, Tensor) else {f"output_{i}": t for i, t in enumerate(y.values())}

        return run


@planted(MODELS)
class GivesDoubles(Right):
    def calling(self, model: nn.Module, example: Batch) -> Call:
        return lambda *args, **kwargs: map_tensors(Tensor.double, model(*args, **kwargs))


@planted(MODELS)
class KeepsTheSecondInput(Right):
    """What is not the first input is taken for a constant."""

    def calling(self, model: nn.Module, example: Batch) -> Call:
        def run(*args: Any, **kwargs: Any) -> Any:
            fixed = dict(list(example.kwargs.items())[1:])
            rows = len(next(iter_tensors((args, kwargs))))
            return model(*args, **{**kwargs, **{name: tensor[:rows] for name, tensor in fixed.items()}})

        return run


@planted(SUPPORTS)
class SaysNo(Right):
    def supports(self, model: nn.Module) -> Support:
        return Support.no("it is tired")


@planted(SUPPORTS)
class SaysNoWithoutAReason(Right):
    def supports(self, model: nn.Module) -> Support:
        return False


@planted(OTHER_SIZE)
class KeepsTheSizeOfTheExample(Right):
    def calling(self, model: nn.Module, example: Batch) -> Call:
        rows = len(next(iter_tensors((example.args, example.kwargs))))

        def run(*args: Any, **kwargs: Any) -> Any:
            if len(next(iter_tensors((args, kwargs)))) != rows:
                raise RuntimeError(f"compiled for {rows} rows")
            return model(*args, **kwargs)

        return run


@planted(OTHER_SIZE)
class FillsUpWithZeros(Right):
    """To the size of the example, and gives all of it."""

    def calling(self, model: nn.Module, example: Batch) -> Call:
        rows = len(next(iter_tensors((example.args, example.kwargs))))

        def filled(x: Tensor) -> Tensor:
            return torch.cat([x, x.new_zeros(max(0, rows - len(x)), *x.shape[1:])])

        return lambda *args, **kwargs: model(*map_tensors(filled, args), **map_tensors(filled, kwargs))


@planted("test_compiled_with_one_row_it_runs_more")
class TakesOneRowForFixed(Right):
    """As exporters do with an axis of size 1."""

    def calling(self, model: nn.Module, example: Batch) -> Call:
        is_fixed = len(next(iter_tensors((example.args, example.kwargs)))) == 1
        return lambda *args, **kwargs: model(*(x[:1] if is_fixed else x for x in args), **kwargs)


@planted("test_the_strides_of_inputs_do_not_matter")
class ReadsMemoryInOrder(Right):
    def calling(self, model: nn.Module, example: Batch) -> Call:
        def in_order(x: Tensor) -> Tensor:
            return x.as_strided(x.shape, torch.empty(x.shape).stride())

        return lambda *args, **kwargs: model(*map_tensors(in_order, args), **map_tensors(in_order, kwargs))


@planted("test_the_order_of_keywords_does_not_matter")
class TakesKeywordsInTheirOrder(Right):
    def calling(self, model: nn.Module, example: Batch) -> Call:
        names = list(example.kwargs)
        return lambda *args, **kwargs: model(*args, **dict(zip(names, kwargs.values(), strict=True)))


@planted(UNCHANGED)
class WritesIntoTheBatch(Right):
    def calling(self, model: nn.Module, example: Batch) -> Call:
        def run(*args: Any, **kwargs: Any) -> Any:
            y = model(*args, **kwargs)
            next(iter_tensors((args, kwargs))).zero_()
            return y

        return run


@planted(UNCHANGED)
class WritesIntoTheModel(Right):
    """Its float weights are made bfloat16."""

    def compile(self, model: nn.Module, example: Batch) -> nn.Module:
        for parameter in model.parameters():
            parameter.data = parameter.data.bfloat16().float()
        return super().compile(model, example)


@planted(UNCHANGED)
class LeavesTheModelTraining(Right):
    def compile(self, model: nn.Module, example: Batch) -> nn.Module:
        compiled = super().compile(model, example)
        model.train()
        return compiled


@planted(UNCHANGED)
class LeavesAHook(Right):
    def compile(self, model: nn.Module, example: Batch) -> nn.Module:
        compiled = super().compile(model, example)
        model.register_forward_hook(lambda *_: None)
        return compiled


@planted(MEMORY)
class HasOneOutput(Right):
    def calling(self, model: nn.Module, example: Batch) -> Call:
        kept: dict[Any, Tensor] = {}

        def run(*args: Any, **kwargs: Any) -> Any:
            return map_tensors(lambda y: kept.setdefault(y.shape, y).copy_(y), model(*args, **kwargs))

        return run


@planted(MEMORY)
class RemembersItsLastAnswer(Right):
    def calling(self, model: nn.Module, example: Batch) -> Call:
        kept: dict[Any, Any] = {}

        def run(*args: Any, **kwargs: Any) -> Any:
            asked = tuple(iter_tensors((args, kwargs)))
            return kept.setdefault(tuple(map(id, asked)), (asked, model(*args, **kwargs)))[1]

        return run


@planted("test_models_do_not_mix")
class KeepsTheFirstModel(Right):
    """Of each structure."""

    def __init__(self) -> None:
        self.kept: dict[str, nn.Module] = {}

    def compile(self, model: nn.Module, example: Batch) -> nn.Module:
        return self.kept.setdefault(str(model), super().compile(model, example))


@planted("test_models_do_not_mix")
class HasOneModel(Right):
    def calling(self, model: nn.Module, example: Batch) -> Call:
        self.model = model
        return lambda *args, **kwargs: self.model(*args, **kwargs)  # noqa: PLW0108 - of what is compiled when it runs


@planted("test_threads_do_not_mix")
class HasOneScratch(Right):
    def calling(self, model: nn.Module, example: Batch) -> Call:
        scratch: dict[str, Any] = {}

        def run(*args: Any, **kwargs: Any) -> Any:
            scratch["given"] = args, kwargs
            time.sleep(0.001)  # where other threads run
            args, kwargs = scratch["given"]
            return model(*args, **kwargs)

        return run


@planted("test_it_leaves_torch_as_it_is")
class TakesTheThreads(Right):
    def compile(self, model: nn.Module, example: Batch) -> nn.Module:
        torch.set_num_threads(1)
        return super().compile(model, example)


@planted("test_it_leaves_torch_as_it_is")
class SwitchesGradientsOff(Right):
    def calling(self, model: nn.Module, example: Batch) -> Call:
        def run(*args: Any, **kwargs: Any) -> Any:
            torch.set_grad_enabled(False)
            return model(*args, **kwargs)

        return run


@planted("test_what_does_not_fit_the_model_is_an_error")
class CutsInputs(Right):
    def calling(self, model: nn.Module, example: Batch) -> Call:
        def cut(x: Tensor, like: Tensor) -> Tensor:
            return x[..., : like.shape[-1]] if x.ndim > 1 else x

        return lambda *args, **kwargs: model(*map(cut, args, example.args), **kwargs)


@planted("test_a_quantizer_compiles_by_it")
class HasNoWords(Right):
    def details(self, compiled: nn.Module) -> str:
        return None
