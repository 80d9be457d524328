"""What every kernel promises."""

import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import attrs
import pytest
import torch
from torch import Tensor, nn

from mono_quant.core.tensors import same_bits
from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.kernels.verify import verify
from mono_quant.plugin_api import FusedRun, Kernel, KernelSpec, Op, QuantizedOp, Support, WeightOnlyOp, hookimpl
from mono_quant.plugin_api.activation import EXAMPLES
from mono_quant.quantizer import Quantizer
from mono_quant.testing import adversarial
from mono_quant.testing.data import seeded
from mono_quant.testing.distance import distance_from_reference, floats_of, weight_only_bound
from mono_quant.testing.fused import fused_problem

__all__ = ["KernelSuite"]

_CPU = torch.device("cpu")
_LINEAR, _CONV = adversarial.GEOMETRIES[4], adversarial.GEOMETRIES[18]
_FEATURES = 32

_SCHEMES: dict[str, Any] = {
    "linear": "int8-static",
    "int8": "int8-weight-only",
    "int8-asymmetric": {"name": "int8-weight-only", "symmetric": False},
    "int4": {"name": "int4-weight-only", "symmetric": True, "group_size": 32},
    "int4-asymmetric": {"name": "int4-weight-only", "group_size": 32},
}
"""A built-in scheme for a kind of layer, or for a storage of its weight."""


class KernelSuite(ABC):
    """Derive a test class from it, write `make` and set `kinds`.

    Wherever the kernel says yes, its outputs are compared with those of the reference kernel, and may differ by what
    the roundings of its `precision` explain.
    """

    kinds: ClassVar[tuple[str, ...]]
    """The kinds of ops that it runs here: ``"linear"``, ``"conv1d"`` to ``"conv3d"``, ``"weight-only-linear"``."""

    storages: ClassVar[tuple[str, ...]] = ("int8",)
    """For ``"weight-only-linear"``: the ways of `mono_quant.testing.adversarial.WEIGHT_STORAGE` that it must run."""

    @abstractmethod
    def make(self) -> Kernel:
        """A new kernel."""

    def test_it_is_a_kernel(self) -> None:
        assert isinstance(self.make(), Kernel), "make() must give a mono_quant.plugin_api.Kernel"
        assert self.kinds, "kinds must name what it runs, or nothing of it is tested"
        assert isinstance(self.make().pairs_int16, bool)
        assert isinstance(self.make().rounds_sums, bool)
        assert self.make().precision.is_floating_point

    def test_it_runs_what_it_is_for(self) -> None:
        for op, _ in self._examples():
            support = self.make().supports(op, _CPU)
            assert isinstance(support, Support), "supports() must give a Support"
            assert support, f"it is declared for {op.kind!r}, and supports() says no: {support.why_not}"

    def test_it_says_no_to_what_it_does_not_know(self) -> None:
        foreign: list[Any] = [_Unknown(), _Unknown(kind="linear"), object()]
        for op in foreign:
            support = self.make().supports(op, _CPU)
            assert not support, "supports() must say no to an op that is of no class it knows"
            assert support.why_not

    @pytest.mark.parametrize("geometry", adversarial.GEOMETRIES, ids=str)
    def test_it_equals_the_reference_on_the_worst_weights_and_inputs(self, geometry: adversarial.Geometry) -> None:
        kernel = self.make()
        given = adversarial.weights(geometry)
        if not kernel.pairs_int16:
            given |= adversarial.full_range_weights(geometry)
        for label, weight in given.items():
            for op in adversarial.ops(geometry, weight):
                if not kernel.supports(op, _CPU):
                    continue
                run = kernel.pack(op)
                for inputs, codes in adversarial.codes(geometry).items():
                    x = floats_of(codes, op)
                    distance = distance_from_reference(run(x), x, op, rounds_sums=kernel.rounds_sums)
                    assert distance <= 1, (
                        f"weights {label}, inputs {inputs}, zero point {op.input_zero_point}: "
                        f"{distance:.3g} times what rounding explains"
                    )

    @pytest.mark.parametrize("has_bias", [True, False], ids=["bias", "no bias"])
    @pytest.mark.parametrize("storage", adversarial.WEIGHT_STORAGE)
    def test_it_equals_the_reference_where_only_the_weight_is_quantized(self, storage: str, *, has_bias: bool) -> None:
        kernel = self.make()
        for out, features in adversarial.WEIGHT_SHAPES:
            op = adversarial.weight_only_op(storage, out, features, has_bias=has_bias)
            if not kernel.supports(op, _CPU):
                continue
            run = kernel.pack(op)
            for rows in (1, 2, 17):
                for x in (_inputs(rows, features), _inputs(rows, features).abs() * 1e3, torch.zeros(rows, features)):
                    error = (run(x).double() - ReferenceKernel().pack(op)(x).double()).abs()
                    within = bool((error <= weight_only_bound(kernel, op, x)).all())
                    assert within, f"{out} x {features}, {rows} rows: {float(error.max()):.3g} is more than rounding"

    @pytest.mark.parametrize("geometry", adversarial.GEOMETRIES, ids=str)
    def test_what_it_fuses_equals_the_steps_one_by_one(self, geometry: adversarial.Geometry) -> None:
        for label, weight in adversarial.weights(geometry).items():
            for op in adversarial.ops(geometry, weight):
                if op.input_scale is None or not self.make().supports(op, _CPU):
                    continue
                run = self.make().pack(op)
                if not isinstance(run, FusedRun):
                    continue
                for inputs, codes in adversarial.codes(geometry).items():
                    for activation in (None, *(one for one in EXAMPLES if one.name in run.activations)):
                        problem = fused_problem(run, op, _in_another_layout(codes.to(torch.uint8)), activation)
                        assert not problem, f"{activation}, weights {label}, inputs {inputs}: {problem}"

    def test_an_output_that_is_fused_later_is_of_the_layer_as_it_was_packed(self) -> None:
        for op, x in self._examples():
            run = self.make().pack(op)
            if isinstance(op, QuantizedOp) and isinstance(run, FusedRun):
                codes = run.encode(x)
                expected = run.fused(codes)
                for tensor in _tensors_of(op):
                    tensor.zero_()
                assert same_bits(run.fused(codes), expected), "what is packed shares memory with the op's tensors"

    def test_each_input_may_have_its_own_range(self) -> None:
        kernel = self.make()
        for op, x in self._examples():
            if not isinstance(op, QuantizedOp):
                continue
            dynamic = attrs.evolve(op, input_scale=None, input_zero_point=None)
            if not kernel.supports(dynamic, _CPU):
                continue
            run = kernel.pack(dynamic)
            for one in (x, x * 100, x.abs() + 1, torch.zeros_like(x)):
                distance = distance_from_reference(run(one), one, dynamic, rounds_sums=kernel.rounds_sums)
                assert distance <= 1, "an input with a range of its own gives another output than the reference"

    def test_the_output_is_new_float32(self) -> None:
        for op, x in self._examples():
            run = self.make().pack(op)
            first = run(x)
            kept = first.clone()
            second = run(-x)
            expected = ReferenceKernel().pack(op)(x)
            assert (first.dtype, first.shape) == (torch.float32, expected.shape), (
                "outputs are float32, as the reference's"
            )
            assert first.untyped_storage().data_ptr() != second.untyped_storage().data_ptr(), "two outputs share memory"
            assert same_bits(first, kept), "a second call wrote into the first output"

    def test_input_and_op_are_left_as_they_were(self) -> None:
        for op, x in self._examples():
            tensors = [x, *_tensors_of(op)]
            before = [tensor.clone() for tensor in tensors]
            self.make().pack(op)(x)
            assert all(map(same_bits, before, tensors)), "packing or running changed a tensor that it was given"

    def test_two_layers_do_not_mix(self) -> None:
        for op, x in self._examples():
            kernel = self.make()
            other_op = _negated(op)
            one, other = kernel.pack(op), kernel.pack(other_op)
            alone = self.make().pack(op)(x)
            other(x)
            assert same_bits(one(x), alone), "a layer's output depends on what was packed or run after it"

    def test_the_same_input_gives_the_same_bits(self) -> None:
        for op, x in self._examples():
            run = self.make().pack(op)
            first = run(x)
            assert all(same_bits(first, run(x)) for _ in range(3)), "the same call gives other bits"
            assert same_bits(first, self.make().pack(op)(x)), "packed again, it gives other bits"

    def test_the_strides_of_the_input_do_not_matter(self) -> None:
        for op, x in self._examples():
            run = self.make().pack(op)
            for same in (x, x[:1].repeat(3, *[1] * (x.ndim - 1))):
                expected, bound = run(same), self._bound(op, same)
                for how, strided in _strided(same).items():
                    close = (run(strided).double() - expected.double()).abs() <= 2 * bound
                    assert bool(close.all()), f"the same numbers in a tensor that is {how} give another output"

    def test_the_output_may_be_written_into(self) -> None:
        for op, x in self._examples():
            run = self.make().pack(op)
            output, tensors = run(x), [x, *_tensors_of(op)]
            expected, before = output.clone(), [tensor.clone() for tensor in tensors]
            output.fill_(torch.nan)
            assert all(map(same_bits, before, tensors)), "the output shares memory with the input or the op"
            assert same_bits(run(x), expected), "who writes into an output changes what the layer gives next"

    def test_threads_may_pack_at_once(self) -> None:
        for op, x in self._examples():
            layers = [(each, self.make().pack(each)(x)) for each in (op, _negated(op))]
            with ThreadPoolExecutor(4) as pool:
                right = pool.map(_packs_again, [self.make()] * 4, layers * 2, [x] * 4)
                assert all(right), "two threads that pack with one kernel at once get each other's layers"

    def test_threads_do_not_disturb_each_other(self) -> None:
        for op, x in self._examples():
            run = self.make().pack(op)
            expected = {sign: run(x * sign) for sign in (1, -1)}

            def is_wrong(sign: int, run: Any = run, x: Tensor = x, expected: Any = expected) -> bool:  # noqa: ANN401
                return not all(same_bits(run(x * sign), expected[sign]) for _ in range(20))

            with ThreadPoolExecutor(4) as pool:
                wrong = any(pool.map(is_wrong, (1, -1, 1, -1)))  # raises what a thread raised
            assert not wrong, "two threads that run one layer get wrong outputs"

    def test_surroundings_do_not_matter(self) -> None:
        for op, x in self._examples():
            expected = self.make().pack(op)(x)
            default = torch.get_default_dtype()
            try:
                torch.set_default_dtype(torch.float64)
                is_exact = isinstance(op, QuantizedOp)  # with float inputs it may follow autocast, as float layers do
                with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_exact):
                    found = self.make().pack(op)(x)
            finally:
                torch.set_default_dtype(default)
            assert same_bits(expected, found), "default dtype, autocast or inference mode change the output"

    def test_the_kernel_travels_with_a_pickled_model(self) -> None:
        twin = pickle.loads(pickle.dumps(self.make()))  # noqa: S301 - pickled on this line
        for op, x in self._examples():
            assert same_bits(twin.pack(op)(x), self.make().pack(op)(x))

    def test_it_is_verified_before_its_first_use(self) -> None:
        for op, _ in self._examples():
            verdict = verify(self.make(), op)
            assert verdict, f"the check that is made before a kernel is used refuses it: {verdict.why_not}"

    def test_a_quantizer_runs_layers_with_it(self) -> None:
        for kind in {*self.kinds, *(self.storages if "weight-only-linear" in self.kinds else ())} & set(_SCHEMES):
            model, x = nn.Sequential(nn.Linear(_FEATURES, 16)).eval(), _inputs(8, _FEATURES)
            result = Quantizer(
                _SCHEMES[kind], kernel="the-kernel", plugins=[_Plugin(self.make)], autoload=False, show_progress=False
            ).quantize(model, [x, x + 1])
            assert "the-kernel" in result.info.kernels["0"], f"a layer of kind {kind} did not run with this kernel"

    def _examples(self) -> Iterator[tuple[Op, Tensor]]:
        """One op of each of its kinds with a float input."""
        for kind in self.kinds:
            if kind == "weight-only-linear":
                for storage in self.storages:
                    yield adversarial.weight_only_op(storage, 16, _FEATURES), _inputs(3, _FEATURES)
                continue
            geometry = next(one for one in adversarial.GEOMETRIES if one.kind == kind and one.channels > 1)
            op = list(adversarial.ops(geometry, adversarial.weights(geometry)["random"]))[1]
            yield op, floats_of(adversarial.codes(geometry)["random"], op)

    def _bound(self, op: Op, x: Tensor) -> Tensor:
        if isinstance(op, WeightOnlyOp):
            return weight_only_bound(self.make(), op, x)
        return 8 * torch.finfo(torch.float32).eps * ReferenceKernel().pack(op)(x).double().abs().max()


class _Plugin:
    def __init__(self, factory: Any) -> None:  # noqa: ANN401
        self._factory = factory

    @hookimpl
    def mono_quant_kernels(self) -> list[KernelSpec]:
        return [KernelSpec(name="the-kernel", summary="the kernel under test", factory=self._factory)]


@attrs.frozen
class _Unknown:
    """An op of a kind that will be there one day."""

    kind: str = "a-kind-of-the-future"


def _inputs(rows: int, features: int) -> Tensor:
    return torch.randn(rows, features, generator=seeded(5))


def _strided(x: Tensor) -> dict[str, Tensor]:
    """The same numbers at other places in memory; expanded only where all along the first axis are the same."""
    made = {
        "transposed": x.transpose(0, -1).contiguous().transpose(0, -1),
        "spread": x.repeat_interleave(2, dim=-1)[..., ::2],
        "a part of another": torch.cat([x + 1, x, x - 1])[len(x) : 2 * len(x)],
    }
    is_same = all(torch.equal(x[:1], x[row : row + 1]) for row in range(len(x)))
    return {**made, "expanded": x[:1].expand_as(x)} if is_same else made


def _packs_again(kernel: Kernel, layer: tuple[Op, Tensor], x: Tensor) -> bool:
    """Whether the op gives this output, time and again."""
    op, expected = layer
    return all(same_bits(kernel.pack(op)(x), expected) for _ in range(5))


def _tensors_of(op: Op) -> list[Tensor]:
    if isinstance(op, WeightOnlyOp):
        return [*op.stored.values(), *([] if op.bias is None else [op.bias])]
    return [op.weight, op.weight_scale, *([] if op.bias is None else [op.bias])]


def _in_another_layout(x: Tensor) -> Tensor:
    return x.transpose(0, -1).contiguous().transpose(0, -1)


def _negated(op: Op) -> Op:
    """A layer of the same shapes with other numbers."""
    if isinstance(op, WeightOnlyOp):
        scale = op.stored.get("_scale")
        changed = {} if scale is None else {"_scale": scale * 2}
        return attrs.evolve(op, stored={**op.stored, **changed}, bias=None if op.bias is None else -op.bias)
    return attrs.evolve(op, weight=-op.weight, bias=None if op.bias is None else -op.bias)
