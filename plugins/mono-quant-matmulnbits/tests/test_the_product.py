"""The layer's output against the reference, where the operator has code of its own: few rows, many, ragged widths."""

import threading

import pytest
import torch
from mono_quant.core.encoding import encode
from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.plugin_api import WeightOnlyOp, WeightSpec
from mono_quant.testing.distance import weight_only_bound
from torch import Tensor

from mono_quant_matmulnbits import MatMulNBitsKernel

CPU = torch.device("cpu")
ROWS = (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 64, 100, 128, 255, 300)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layer(out: int, features: int, *, bias: bool = True, **storage: object) -> WeightOnlyOp:
    options = {"dtype": "int4", "symmetric": False, "granularity": "per-group(32)"} | storage
    spec = WeightSpec(shape=(out, features), **options)
    stored = encode(random(out, features) + 0.2, spec)
    return WeightOnlyOp(stored=stored, spec=spec, bias=random(out, seed=1) if bias else None)


def assert_equals_the_reference(op: WeightOnlyOp, x: Tensor) -> None:
    kernel = MatMulNBitsKernel()
    assert kernel.supports(op, CPU)
    error = (kernel.pack(op)(x).double() - ReferenceKernel().pack(op)(x).double()).abs()
    assert bool((error <= weight_only_bound(kernel, op, x)).all())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("symmetric", [True, False])
def test_any_number_of_rows(*, symmetric: bool, bias: bool):
    op = layer(65, 160, symmetric=symmetric, bias=bias)
    for rows in ROWS:
        assert_equals_the_reference(op, random(rows, 160, seed=2))


@pytest.mark.parametrize(
    "granularity", ["per-tensor", "per-channel(0)", "per-group(16)", "per-group(96)", "per-group(256)"]
)
@pytest.mark.parametrize("dtype", ["int2", "int3", "int4"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_any_width(*, dtype: str, symmetric: bool, granularity: str):
    for out, features in ((1, 1), (3, 15), (17, 16), (5, 33), (2, 100), (33, 129), (7, 255), (4, 257), (16, 999)):
        op = layer(out, features, dtype=dtype, symmetric=symmetric, granularity=granularity)
        for rows in (1, 2, 19):
            assert_equals_the_reference(op, random(rows, features, seed=2))


@pytest.mark.parametrize("symmetric", [True, False])
def test_an_input_of_ones_and_zeros_reads_the_weight(*, symmetric: bool):
    op = layer(40, 300, symmetric=symmetric, bias=False)
    run = MatMulNBitsKernel().pack(op)
    all_at_once = run(torch.eye(300))
    one_by_one = torch.cat([run(row[None]) for row in torch.eye(300)])
    error = 2**-23 * op.stored["_scale"].abs().max() * (0 if symmetric else 16)  # of code · scale and of zero · scale
    assert float((all_at_once.T - op.weight()).abs().max()) <= error
    assert float((one_by_one.T - op.weight()).abs().max()) <= error


def test_extreme_scales_are_not_lost():
    op = layer(8, 64, symmetric=True, bias=False)
    for scale in (2.0**-126, 2.0**100):
        op.stored["_scale"].fill_(scale)
        assert torch.equal(MatMulNBitsKernel().pack(op)(torch.eye(64)).T, op.weight())


def test_no_rows_give_no_rows():
    assert MatMulNBitsKernel().pack(layer(8, 64))(torch.empty(0, 64)).shape == (0, 8)


def test_an_input_of_another_shape_or_dtype_never_reads_beyond_its_memory():
    run = MatMulNBitsKernel().pack(layer(8, 64))
    x = random(2, 64)
    assert torch.equal(run(x.double()), run(x))
    for wrong in (x[:, :63], x[None]):
        with pytest.raises(RuntimeError, match="nvalid"):
            run(wrong)


def test_tensors_may_begin_anywhere_in_memory():
    op = layer(24, 96)
    expected = MatMulNBitsKernel().pack(op)(random(3, 96))
    moved = {suffix: at_an_odd_address(tensor) for suffix, tensor in op.stored.items()}
    x = torch.empty(3 * 96 + 1)[1:].view(3, 96).copy_(random(3, 96))
    assert torch.equal(MatMulNBitsKernel().pack(WeightOnlyOp(stored=moved, spec=op.spec, bias=op.bias))(x), expected)


def at_an_odd_address(tensor: Tensor) -> Tensor:
    """A copy that begins one element after where torch begins tensors."""
    memory = torch.empty(tensor.numel() + 1, dtype=tensor.dtype)
    return memory[1:].view(tensor.shape).copy_(tensor)


def test_what_was_stored_may_go_once_it_is_packed():
    op, x = layer(64, 256), random(5, 256)
    run = MatMulNBitsKernel().pack(op)
    expected = run(x)
    for tensor in op.stored.values():
        tensor.zero_()
    assert torch.equal(run(x), expected)


def test_threads_that_run_one_layer_with_other_numbers_of_rows_do_not_disturb_each_other():
    run = MatMulNBitsKernel().pack(layer(64, 256))
    inputs = {rows: random(rows, 256, seed=rows) for rows in (1, 2, 40, 150)}
    expected = {rows: run(x) for rows, x in inputs.items()}
    wrong: list[int] = []

    def work(rows: int) -> None:
        wrong.extend(rows for _ in range(30) if not torch.equal(run(inputs[rows]), expected[rows]))

    threads = [threading.Thread(target=work, args=(rows,)) for rows in inputs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_another_device_is_refused():
    assert "it runs on the CPU" in MatMulNBitsKernel().supports(layer(8, 64), torch.device("meta")).why_not


def test_another_op_cannot_be_packed():
    with pytest.raises(TypeError, match="expected a WeightOnlyOp, got str"):
        MatMulNBitsKernel().pack("op")
