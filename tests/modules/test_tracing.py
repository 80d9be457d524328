"""Compiled, exported or traced, a quantized module gives the same results."""

import getpass
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_quantization import assert_right, quantized, random_input
from torch import Tensor, nn

from mono_quant import Quantizer
from mono_quant.core.sqnr import sum_sqnr_db
from mono_quant.modules import QuantizedModule

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(6, 9),
    "linear-without-bias": lambda: nn.Linear(6, 9, bias=False),
    "conv1d": lambda: nn.Conv1d(6, 9, 3, padding=1, padding_mode="circular"),
    "conv2d": lambda: nn.Conv2d(6, 9, 3, padding="same", groups=3),
    "conv3d": lambda: nn.Conv3d(6, 9, 2, padding=1, stride=2, padding_mode="replicate"),
}
EVERY_LAYER = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
Run = Callable[[Tensor], Tensor]


def exported(module: nn.Module, x: Tensor) -> Run:
    return torch.export.export(module, (x,)).module()


def strictly_exported(module: nn.Module, x: Tensor) -> Run:
    return torch.export.export(module, (x,), strict=True).module()


def traced(module: nn.Module, x: Tensor) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.jit, which some versions of torch deprecate
        return torch.jit.trace(module, x)


def compiled(module: nn.Module, x: Tensor) -> Run:
    del x
    run: Run = torch.compile(module, backend="eager", fullgraph=True)
    return run


EVERY_WAY = pytest.mark.parametrize("way", [compiled, exported, strictly_exported, traced])


@pytest.fixture(autouse=True)
def nothing_compiled_before() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def pair(make: Callable[[], nn.Module]) -> tuple[nn.Module, QuantizedModule, Tensor]:
    torch.manual_seed(0)
    layer = make()
    module = quantized(layer)
    return layer, module, random_input(module, 2, *[6] * (layer.weight.ndim - 1))


@EVERY_WAY
@EVERY_LAYER
def test_it_gives_what_fake_quantization_in_float64_gives(make: Callable[[], nn.Module], way: Callable[..., Run]):
    layer, module, x = pair(make)
    assert_right(module, layer, x, run=way(module, x), is_traced=True)


@EVERY_WAY
@pytest.mark.parametrize("was_used", [True, False])
def test_the_module_itself_still_runs_its_kernels(way: Callable[..., Run], *, was_used: bool):
    layer, module, x = pair(LAYERS["linear"])
    if was_used:
        module(x)
    way(module, x)(x)
    assert_right(module, layer, x)
    assert module.engine.chosen


@EVERY_WAY
@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16, torch.float64], ids=str)
def test_the_output_has_the_dtype_of_the_input(way: Callable[..., Run], dtype: torch.dtype):
    layer, module, x = pair(LAYERS["conv2d"])
    x = x.to(dtype)
    assert_right(module, layer, x, run=way(module, x), is_traced=True)


@pytest.mark.parametrize("way", [compiled, traced])
def test_other_batch_sizes_are_right_too(way: Callable[..., Run]):
    layer, module, x = pair(LAYERS["linear"])
    run = way(module, x)
    for rows in (2, 5, 1, 300):
        assert_right(module, layer, random_input(module, rows, 6), run=run, is_traced=True)


def test_it_is_exported_with_a_batch_of_any_size():
    layer, module, x = pair(LAYERS["conv1d"])
    run = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)).module()
    assert_right(module, layer, random_input(module, 5, 6, 6), run=run, is_traced=True)


def test_the_exported_state_is_the_modules_own():
    _, module, x = pair(LAYERS["linear"])
    program = torch.export.export(module, (x,))
    assert {name: t.dtype for name, t in program.state_dict.items()} == {
        name: t.dtype for name, t in module.state_dict().items()
    }


@EVERY_WAY
def test_an_input_that_requires_grad_is_right(way: Callable[..., Run]):
    layer, module, x = pair(LAYERS["linear"])
    run = way(module, x)

    def detached(x: Tensor) -> Tensor:
        return run(x.clone().requires_grad_()).detach()

    assert_right(module, layer, x, run=detached, is_traced=True)


def test_a_loaded_state_is_followed_by_what_was_compiled():
    _, module, x = pair(LAYERS["linear"])
    run = compiled(module, x)
    run(x)
    other_layer, other, _ = pair(lambda: nn.Linear(6, 9).requires_grad_(requires_grad=False))
    module.load_state_dict(other.state_dict())
    assert_right(module, other_layer, x, run=run, is_traced=True)


@pytest.fixture
def inductor_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    # torch does not tell apart what it compiled under other limits on the CPU's instructions, and breaks on it
    cache = f"inductor-{getpass.getuser()}-{torch.backends.cpu.get_cpu_capability()}"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / cache))


# torch's own use of torch.jit while it imports its compiler
IMPORTING = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning", "ignore:.torch.jit:FutureWarning")


@IMPORTING
@pytest.mark.usefixtures("inductor_cache")
def test_inductor_compiles_a_model_with_quantized_layers():
    layer, module, x = pair(lambda: nn.Conv2d(6, 9, 3, padding=1, padding_mode="reflect"))
    model: Any = torch.compile(nn.Sequential(module, nn.Identity()), backend="inductor", fullgraph=True)
    with torch.no_grad():
        assert_right(module, layer, x, run=model, is_traced=True)


@IMPORTING
@pytest.mark.usefixtures("inductor_cache")
def test_inductor_compiles_attention_rows_with_a_range_each_and_weights_stored_as_codes():
    torch.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(32, 2, 64, batch_first=True).eval()
    schemes = ({"name": "int8-dynamic", "activations": "per-token"}, {"name": "int8-weight-only"})
    parts = [
        Quantizer(scheme, kernel=kernel, validators=(), show_progress=False).quantize(part).model
        for scheme, kernel, part in zip(schemes, ("onednn", "dequantize"), (encoder, nn.Linear(32, 16)), strict=True)
    ]
    model = nn.Sequential(*parts)
    run, x = torch.compile(model, backend="inductor", fullgraph=True), torch.randn(2, 5, 32)
    with torch.no_grad():
        assert sum_sqnr_db([(model(x), run(x))]) > 90
