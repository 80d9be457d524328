"""Measuring each layer of a run: in one pass of the float model the quantized layers run beside the float ones."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import attrs
from torch import Tensor, nn

from mono_quant._plugins.components import Components
from mono_quant.calibration.collecting import first_input
from mono_quant.calibration.runner import evaluating
from mono_quant.config import QuantizationConfig
from mono_quant.core.granularity import PerTensor
from mono_quant.core.plan import tied_layers
from mono_quant.core.selection import first_match
from mono_quant.core.surgery import copy_with
from mono_quant.core.tensor_spec import TensorSpec
from mono_quant.core.tensors import is_plain
from mono_quant.info import QuantizationInfo
from mono_quant.io.checks import run_once
from mono_quant.io.validation import ValidationResult
from mono_quant.layer_report.hints import hint_of
from mono_quant.layer_report.input_figures import InputFigures
from mono_quant.layer_report.output_figures import OutputFigures
from mono_quant.layer_report.record import LayerReport
from mono_quant.modules import SmoothedLinear, leave_fast_paths, without_fast_paths
from mono_quant.plugin_api import LayerPlan, QuantizedLayer
from mono_quant.rewriting import float_layer, with_other_inputs
from mono_quant.run import Run

__all__ = ["measure_layers"]


def measure_layers(
    model: nn.Module,
    quantized: nn.Module | None,
    run: Run,
    *,
    components: Components,
    config: QuantizationConfig,
    info: QuantizationInfo,
    validation: ValidationResult | None,
) -> tuple[LayerReport, ...]:
    """The records of all quantized layers, in the order of the model.

    Args:
        model: the float model.
        quantized: the model with the quantized layers in it; None to measure nothing and tell only what is known.
        run: with the plan as it was carried out.
        components: of the run.
        config: what the layers were made by.
        info: has the kernels.
        validation: has the SQNR of the weights.
    """
    modules = dict(model.named_modules())
    entries = {entry.name: entry for entry in run.plan.entries}
    sqnr_db = {} if validation is None else validation.layer_sqnr_db
    seen = {} if quantized is None else _seen(model, quantized, run, components)
    tied = tied_layers(run.plan)
    reports = []
    for name, plan in run.plan.layers.items():
        known = LayerReport(
            name=name,
            layer_type=plan.layer_type,
            scheme=plan.scheme,
            weight=" and ".join(dict.fromkeys(map(str, plan.weights.values()))),
            input=None if plan.input is None else str(plan.input),
            observer=_observer(config, (name, *entries[name].also), modules[name]) if plan.needs_data else None,
            kernels=tuple(info.kernels.get(name, ())),
            float_bytes=entries[name].parameter_bytes,
            quantized_bytes=plan.quantized_bytes,
            weight_sqnr_db=sqnr_db.get(name),
        )
        figures = attrs.evolve(known, **seen[name].figures) if name in seen else known
        reports.append(attrs.evolve(figures, hint=hint_of(figures, plan, config, is_tied=name in tied)))
    return tuple(reports)


def _observer(config: QuantizationConfig, names: tuple[str, ...], module: nn.Module) -> str | dict[str, Any]:
    pattern = first_match(config.overrides, names, module)
    override = None if pattern is None else config.overrides[pattern]
    return ((override.observer if override else None) or config.observer).as_wanted()


def _seen(model: nn.Module, quantized: nn.Module, run: Run, components: Components) -> Mapping[str, "_Beside"]:
    """The layers that the float model called by themselves on the first batch."""
    first = run.first
    if first is None:
        return {}
    modules = dict(model.named_modules())
    rewritten = {layer for rewrite in run.plan.rewrites for layer in rewrite.layers}

    def of_float(name: str) -> nn.Module:
        return float_layer(components, modules, run.plan, name) if name in rewritten else modules[name]

    source = model
    if with_other_inputs(run.plan, components.algorithms):
        source = leave_fast_paths(copy_with(model, {name: of_float(name) for name in sorted(rewritten)}), ())
    now = dict(quantized.named_modules(remove_duplicate=False))
    beside = {
        name: _Beside(plan, partial(of_float, name) if source is model else None, now[name])
        for name, plan in run.plan.layers.items()
        if name in now
    }
    with evaluating(quantized), _watching(source, beside):
        run_once(source, first)
    return beside


@contextmanager
def _watching(model: nn.Module, beside: Mapping[str, "_Beside"]) -> Iterator[None]:
    modules = dict(model.named_modules())
    with ExitStack() as stack:
        stack.enter_context(without_fast_paths(model))
        for name, hook in beside.items():
            stack.callback(modules[name].register_forward_hook(hook, prepend=True, with_kwargs=True).remove)
        yield


class _Beside:
    """A hook on a float layer that runs the quantized one on the same input.

    Args:
        plan: of the layer.
        rewritten: gives the float layer after rewrites; None where the hooked one is that.
        quantized: the quantized layer.
    """

    def __init__(self, plan: LayerPlan, rewritten: Callable[[], nn.Module] | None, quantized: nn.Module) -> None:
        self._plan = plan
        self._rewritten = rewritten
        self._quantized = quantized
        self._output: OutputFigures | None = None
        self._input: InputFigures | None = None

    @property
    def figures(self) -> dict[str, Any]:
        """The fields of `LayerReport` that are measured."""
        output, given = self._output, self._input
        found: dict[str, Any] = {}
        if output is not None:
            found |= {"output_sqnr_db": output.sqnr_db, "shift_percent": output.shift_percent}
        if given is not None:
            names = ("saturation_percent", "range_used_percent", "input_channels", "outlier_channels")
            found |= {name: getattr(given, name) for name in names}
        return found

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
        """After each call of the float layer."""
        layer = module if self._rewritten is None else self._rewritten()
        if self._output is None:
            self._output = OutputFigures(None if isinstance(layer, nn.MultiheadAttention) else _channel_axis(layer))
        try:
            self._look_at(layer, first_input(args, kwargs))
            # Not by calling them: hooks are the user's, and go with the model's own pass.
            expected = output if layer is module else layer.forward(*args, **kwargs)
            self._output(expected, self._quantized.forward(*args, **kwargs))
        except Exception:  # noqa: BLE001 - layers and tensors of the user's own raise anything, and a report is no reason to end
            self._output.give_up()

    def _look_at(self, layer: nn.Module, x: object) -> None:
        axis, spec = _channel_axis(layer), self._plan.input
        if spec is None or axis is None or not isinstance(x, Tensor) or not is_plain(x) or not x.is_floating_point():
            return
        if self._input is None:
            self._input = InputFigures(spec.dtype, self._range(spec), axis)
        self._input(layer.quantized_input(x) if isinstance(layer, SmoothedLinear) else x)

    def _range(self, spec: TensorSpec) -> tuple[float, int] | None:
        """Scale and zero point of its input; None where there is not one of each, known before."""
        if not isinstance(self._quantized, QuantizedLayer) or not isinstance(spec.granularity, PerTensor):
            return None
        qparams = self._quantized.input_qparams
        return None if qparams is None else (float(qparams[0]), int(qparams[1]))


def _channel_axis(layer: nn.Module) -> int | None:
    """The axis of the channels of its input, from the end; None where it is not known."""
    if isinstance(layer, nn.Linear | nn.MultiheadAttention):
        return -1
    return -1 - len(layer.kernel_size) if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) else None
