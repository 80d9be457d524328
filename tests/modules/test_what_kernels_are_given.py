"""What the docstring of `Kernel.pack` promises of the input, whatever the layer is called with."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mono_quant import Quantizer
from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.plugin_api import Kernel, KernelSpec, Op, Support, hookimpl

given: list[tuple[Op, Tensor]] = []


class Recording(Kernel):
    def supports(self, op: Op, device: torch.device) -> Support:
        return ReferenceKernel().supports(op, device)

    def pack(self, op: Op) -> Callable[[Tensor], Tensor]:
        run = ReferenceKernel().pack(op)

        def recorded(x: Tensor) -> Tensor:
            given.append((op, x))
            return run(x)

        return recorded


class Plugin:
    @hookimpl
    def mono_quant_kernels(self) -> list[KernelSpec]:
        return [KernelSpec(name="recording", summary="keeps what it is given", factory=Recording)]


LAYERS = {
    "linear": (nn.Linear(6, 4), [(3, 6), (6,), (2, 3, 6), (0, 6)]),
    "conv1d": (nn.Conv1d(6, 4, 3, padding="same", padding_mode="circular"), [(2, 6, 8), (6, 8), (0, 6, 8)]),
    "conv2d": (nn.Conv2d(6, 4, 3), [(2, 6, 5, 5), (6, 5, 5), (0, 6, 5, 5)]),
}


CASES = [
    *((kind, "int8-static", dtype) for kind in LAYERS for dtype in (torch.float32, torch.float64, torch.bfloat16)),
    ("linear", "int8-dynamic", torch.bfloat16),
    ("linear", {"name": "int8-dynamic", "activations": "per-token"}, torch.bfloat16),
    ("linear", "int8-weight-only", torch.float32),  # it takes the dtype of its weight, as the float layer
]


@pytest.mark.parametrize(("kind", "scheme", "dtype"), CASES)
def test_inputs_are_float32_not_empty_and_without_gradients(kind: str, scheme: object, dtype: torch.dtype):
    layer, shapes = LAYERS[kind]
    data = [torch.randn(shapes[0]) for _ in range(2)]
    quantizer = Quantizer(scheme, kernel="recording", plugins=[Plugin()], validators=(), show_progress=False)
    quantized = quantizer.quantize(nn.Sequential(layer), data).model
    given.clear()
    for shape in shapes:
        for x in (torch.randn(shape), torch.randn(*shape[:-1], 2 * shape[-1])[..., ::2]):
            with torch.no_grad():
                quantized(x.to(dtype))
            quantized(x.to(dtype).requires_grad_())
    assert given
    for op, x in given:
        axes = 2 if kind == "linear" else op.weight.ndim
        assert (x.dtype, x.requires_grad, x.ndim, x.numel() > 0) == (torch.float32, False, axes, True)
