"""What every runtime promises."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from mono_quant.calibration.rows import resized
from mono_quant.core.granularity import PerTensor
from mono_quant.core.qtypes import UINT8
from mono_quant.core.tensors import iter_tensors, map_tensors, same_bits
from mono_quant.modules import KernelModule, QuantizedConv1d, QuantizedConv2d, QuantizedConv3d, QuantizedLinear
from mono_quant.plugin_api import Batch, QuantizedOp, Runtime, RuntimeSpec, Support, TensorSpec, WeightSpec, hookimpl
from mono_quant.quantizer import Quantizer
from mono_quant.testing import adversarial
from mono_quant.testing.data import seeded
from mono_quant.testing.distance import ROUNDING, floats_of
from mono_quant.testing.runtime_models import runtime_models
from mono_quant.testing.whole_models import WholeModel, call, refuse_other_output

__all__ = ["RuntimeSuite"]

_LAYERS: dict[str, tuple[Any, type[KernelModule]]] = {
    "linear": (nn.Linear, QuantizedLinear),
    "conv1d": (nn.Conv1d, QuantizedConv1d),
    "conv2d": (nn.Conv2d, QuantizedConv2d),
    "conv3d": (nn.Conv3d, QuantizedConv3d),
}
_ROUNDINGS = 16
"""Of an output by the runtime: of the sum, of scales, of the bias and of their products."""


class RuntimeSuite(ABC):
    """Derive a test class from it and write `make`.

    Single layers with the worst weights and inputs are compared with exact integer arithmetic, and whole models with
    the reference kernels.
    """

    geometries: ClassVar[Sequence[adversarial.Geometry]] = adversarial.GEOMETRIES
    """The layers that are compared with integers; fewer of them where compiling is slow."""

    rounds_bias: ClassVar[bool] = False
    """Whether a bias becomes whole steps of ``input_scale · weight_scale``, as int32 codes are."""

    sums_floats: ClassVar[bool] = False
    """Whether it multiplies and adds dequantized numbers in float32 in some layers, where each term is rounded."""

    least_db: ClassVar[float] = 45.0
    """SQNR that small models must have against the reference kernels, in which few codes fall between two others."""

    @abstractmethod
    def make(self) -> Runtime:
        """A new runtime, whose floats are float32 if it has a choice."""

    def models(self) -> Mapping[str, tuple[nn.Module, str | Mapping[str, Any], Sequence[Any]]]:
        """Float models in eval mode that it must run, each with a scheme and batches, by a name."""
        return runtime_models()

    def test_it_is_a_runtime(self) -> None:
        assert isinstance(self.make(), Runtime), "make() must give a mono_quant.plugin_api.Runtime"
        assert isinstance(self.make().is_slow_to_compile, bool)

    def test_it_supports_what_it_is_tested_with(self) -> None:
        for name, one, _ in self._made():
            support = self.make().supports(one.quantized)
            assert isinstance(support, Support), "supports() must give a Support"
            assert support, f"supports() says no to {name}: {support.why_not}"

    def test_layers_with_the_worst_weights_and_inputs_equal_integer_arithmetic(self) -> None:
        for geometry in self.geometries:
            ops = [op for weight in adversarial.weights(geometry).values() for op in adversarial.ops(geometry, weight)]
            model = _Beside([_layer(op) for op in ops]).eval()
            given = adversarial.codes(geometry)
            batches = [[floats_of(codes, op) for op in ops] for codes in given.values()]
            compiled = self.make().compile(model, Batch(args=tuple(batches[0])))
            for (inputs, codes), batch in zip(given.items(), batches, strict=True):
                for op, actual in zip(ops, call(compiled, Batch(args=tuple(batch))), strict=True):
                    excess = self._excess(actual, codes, op)
                    assert excess <= 0, (
                        f"{geometry}, inputs {inputs}, zero point {op.input_zero_point}: off by {excess}"
                    )

    def test_models_give_what_the_reference_kernels_give(self) -> None:
        for name, one, compiled in self._made():
            for batch in one.batches:
                self._refuse_other_output(compiled, one.quantized, batch, name)

    def test_a_batch_of_another_size_runs(self) -> None:
        for name, one, compiled in self._made():
            for rows in (1, 3):
                batch = resized(one.batches[0], rows)
                self._refuse_other_output(compiled, one.quantized, batch, f"{name}, {rows} rows")

    def test_compiled_with_one_row_it_runs_more(self) -> None:
        (_, quantized), *_ = _same_but_for_weights()
        rows = torch.randn(4, 12, generator=seeded(3))
        compiled = self._compile(quantized, Batch(args=(rows[:1],)))
        self._refuse_other_output(compiled, quantized, Batch(args=(rows,)), "4 rows")

    def test_the_strides_of_inputs_do_not_matter(self) -> None:
        for name, one, compiled in self._made():
            args, kwargs = map_tensors(_apart, (one.batches[0].args, dict(one.batches[0].kwargs)))
            expected, actual = call(compiled, one.batches[0]), call(compiled, Batch(args, kwargs))
            assert _are_close(expected, actual), f"{name}: wrong for tensors that are a part of others"

    def test_the_order_of_keywords_does_not_matter(self) -> None:
        for name, one, compiled in self._made():
            batch = one.batches[0]
            turned = Batch(batch.args, dict(reversed([*batch.kwargs.items()])))
            expected, actual = call(compiled, batch), call(compiled, turned)
            assert _are_close(expected, actual), f"{name}: keywords are mixed up"

    def test_it_changes_neither_the_model_nor_the_inputs(self) -> None:
        for name, one, compiled in self._made():
            call(compiled, one.batches[0])
            one.refuse_change(name)

    def test_outputs_are_new_memory(self) -> None:
        for name, one, compiled in self._made():
            first = [*iter_tensors(call(compiled, one.batches[0]))]
            kept = [tensor.clone() for tensor in first]
            call(compiled, one.batches[1])
            assert all(map(same_bits, first, kept)), f"{name}: a later call wrote into an output that was given before"
            for tensor in first:
                tensor.zero_()
            again = [*iter_tensors(call(compiled, one.batches[0]))]
            assert _are_close(again, kept), f"{name}: writing into an output changed a later one"

    def test_models_do_not_mix(self) -> None:
        runtime = self.make()
        models = [quantized for _, quantized in _same_but_for_weights()]
        batch = Batch(args=(torch.randn(4, 12, generator=seeded(3)),))
        compiled = [runtime.compile(model, batch) for model in models]
        for number, (model, one) in enumerate(zip(models, compiled, strict=True)):
            self._refuse_other_output(one, model, batch, f"model {number}")

    def test_threads_do_not_mix(self) -> None:
        (_, quantized), *_ = _same_but_for_weights()
        batches = [Batch(args=(torch.randn(4, 12, generator=seeded(number)),)) for number in range(16)]
        compiled = self._compile(quantized, batches[0])
        expected = [call(compiled, batch).clone() for batch in batches]
        with ThreadPoolExecutor(4) as pool:
            actual = [*pool.map(lambda batch: call(compiled, batch), batches * 2)]
        pairs = zip(expected * 2, actual, strict=True)
        assert all(_are_close(x, y) for x, y in pairs), "calls from several threads are mixed"

    def test_it_leaves_torch_as_it_is(self) -> None:
        (_, quantized), *_ = _same_but_for_weights()
        batch = Batch(args=(torch.randn(4, 12, generator=seeded(3)),))
        with _unusual_surroundings() as before:
            compiled = self._compile(quantized, batch)
            assert _surroundings() == before, "compiling changed torch's threads, default dtype or gradients for others"
            compiled(*batch.args)
            assert _surroundings() == before, "running changed torch's threads, default dtype or gradients for others"

    def test_what_does_not_fit_the_model_is_an_error(self) -> None:
        (_, quantized), *_ = _same_but_for_weights()
        compiled = self._compile(quantized, Batch(args=(torch.randn(4, 12),)))
        with pytest.raises(Exception):  # noqa: B017, PT011 - of whatever kind
            call(compiled, Batch(args=(torch.randn(4, 13),)))

    def test_a_quantizer_compiles_by_it(self) -> None:
        suite = self

        class Plugin:
            @hookimpl
            def mono_quant_runtimes(self) -> list[RuntimeSpec]:
                return [RuntimeSpec(name="under-test", summary="under test", factory=lambda: suite.make())]  # noqa: PLW0108

        model, scheme, batches = runtime_models()["convolutions"]
        result = Quantizer(scheme, plugins=[Plugin()], show_progress=False).quantize(model, batches)
        compiled = result.compile("under-test")
        assert compiled.runtime == "under-test"
        assert isinstance(compiled.details, str), "details() must give text"
        assert "details() raised" not in compiled.details
        assert torch.allclose(compiled(batches[0]), result.model(batches[0]), rtol=1e-2, atol=0.1)

    def _made(self) -> Iterator[tuple[str, WholeModel, nn.Module]]:
        """The models, compiled once for all tests of the class."""
        for name, (model, scheme, batches) in self.models().items():
            if (type(self), name) not in _MADE:
                one = WholeModel.of(model, scheme, batches)
                _MADE[type(self), name] = one, self._compile(one.quantized, one.batches[0])
            yield name, *_MADE[type(self), name]

    def _compile(self, quantized: nn.Module, example: Batch) -> nn.Module:
        return self.make().compile(quantized, example)

    def _refuse_other_output(self, compiled: nn.Module, quantized: nn.Module, batch: Batch, what: str) -> None:
        refuse_other_output(compiled, quantized, batch, what, least_db=self.least_db)

    def _excess(self, actual: Tensor, codes: Tensor, op: QuantizedOp) -> float:
        """How much more than rounding explains the output differs from exact arithmetic in float64."""
        exact, magnitude, terms = _exact(codes, op)
        step = (op.weight_scale.double() * float(op.input_scale or 0)).reshape(-1, *[1] * len(op.stride))
        allowed = _ROUNDINGS * ROUNDING * magnitude
        if self.sums_floats:
            allowed = allowed + op.weight[0].numel() * ROUNDING * terms
        if self.rounds_bias and op.bias is not None:
            allowed = allowed + (0.5 + 1e-3) * step
        if actual.shape != exact.shape:
            return math.inf
        excess = (actual.double() - exact).abs() - allowed
        return float(excess.nan_to_num(math.inf).max())


_MADE: dict[tuple[type, str], tuple[WholeModel, nn.Module]] = {}
"""Class of the suite and name of the model → the model, and what the runtime made of it."""


class _Beside(nn.Module):
    """Layers with an input each: ``n`` tensors → ``n`` tensors."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        return [layer(x) for layer, x in zip(self.layers, inputs, strict=True)]


def _layer(op: QuantizedOp) -> KernelModule:
    """The quantized layer of an op, with reference kernels."""
    kind, quantized = _LAYERS[op.kind]
    out, inner = op.weight.shape[:2]
    if op.kind == "linear":
        layer = kind(inner, out, bias=op.bias is not None)
    else:
        layer = kind(
            inner * op.groups, out, tuple(op.weight.shape[2:]), op.stride, op.padding, op.dilation, op.groups,
            bias=op.bias is not None,
        )  # fmt: skip
    if op.bias is not None:
        layer.bias = nn.Parameter(op.bias.clone())
    spec = WeightSpec(dtype="int8", symmetric=True, granularity="per-channel(0)", shape=op.weight.shape)
    stored = {"": op.weight.clone(), "_scale": op.weight_scale.clone()}
    qparams = (torch.tensor(op.input_scale), torch.tensor(op.input_zero_point, dtype=torch.int32))
    return quantized(layer, spec, stored, TensorSpec(dtype=UINT8, symmetric=False, granularity=PerTensor()), qparams)


def _exact(codes: Tensor, op: QuantizedOp) -> tuple[Tensor, Tensor, Tensor]:
    """The output in float64, whose sums of integers are exact; bounds of the sums and of all terms that are rounded."""
    convolve: Any = {
        "linear": nn.functional.linear, "conv1d": torch.conv1d, "conv2d": torch.conv2d, "conv3d": torch.conv3d,
    }[op.kind]  # fmt: skip
    geometry = () if op.kind == "linear" else (None, op.stride, op.padding, op.dilation, op.groups)
    x, weight = (codes - (op.input_zero_point or 0)).double(), op.weight.double()
    sums = convolve(x, weight, *geometry)
    scale = (op.weight_scale.double() * float(op.input_scale or 0)).reshape(-1, *[1] * len(op.stride))
    bias = 0 if op.bias is None else op.bias.double().reshape(-1, *[1] * len(op.stride))
    terms = convolve(x.abs(), weight.abs(), *geometry) * scale
    return sums * scale + bias, (sums * scale).abs() + torch.as_tensor(bias).abs(), terms


def _same_but_for_weights() -> list[tuple[nn.Module, nn.Module]]:
    """Three models alike, quantized."""
    made: list[tuple[nn.Module, nn.Module]] = []
    for seed in range(3):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
        data = [torch.randn(8, 12, generator=seeded(seed + 9))]
        quantized = Quantizer("int8-static", validators=(), show_progress=False).quantize(model, data).model
        made.append((model, quantized))
    return made


def _are_close(expected: object, actual: object) -> bool:
    """Of one runtime, whose sums may be added in another order at each call."""
    pairs = zip(iter_tensors(expected), iter_tensors(actual), strict=True)
    return all(torch.allclose(x, y, rtol=1e-3, atol=1e-3) for x, y in pairs)


def _apart(tensor: Tensor) -> Tensor:
    """The same tensor as a part of one twice as large: not from its beginning, and not side by side."""
    return torch.stack([torch.zeros_like(tensor), tensor], -1)[..., 1]


@contextmanager
def _unusual_surroundings() -> Iterator[tuple[int, torch.dtype, bool]]:
    """One thread more than there was, and gradients: what somebody may have left otherwise shows."""
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with torch.enable_grad():
            yield _surroundings()
    finally:
        torch.set_num_threads(threads)


def _surroundings() -> tuple[int, torch.dtype, bool]:
    return torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
