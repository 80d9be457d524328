"""How fast weights are quantized, packed, saved and loaded, against what the machine can do with the same bytes.

``nox -s bench_quantization`` writes docs/reference/quantization-speed.md; some minutes, on a quiet machine. With
``-- --only Calibration`` it measures one section, and keeps the others as they are.
"""

import argparse
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import attrs
import torch
from safetensors import safe_open
from torch import Tensor, nn

from mono_quant import Quantizer, load_model, quantize, save_model
from mono_quant.core.encoding import decode, encode
from mono_quant.core.packing import pack, unpack
from mono_quant.core.tensor_spec import WeightSpec
from mono_quant.core.weights import is_pair_safe, quantize_weight
from mono_quant.kernels.fbgemm import FbgemmKernel
from mono_quant.kernels.onednn import OnednnKernel
from mono_quant.plugin_api import QuantizedOp

from . import calibration_speed, discovery, imports
from .peers.machine import cpu
from .peers.timing import in_turn
from .tables import table

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "quantization-speed.md"
SHAPES = ((4096, 4096), (512, 512, 3, 3))
ENCODINGS = (
    ("int8", "per-channel(0)", True),
    ("int8", "per-channel(1)", True),
    ("int8", "per-group(128)", False),
    *((f"int{bits}", "per-group(128)", False) for bits in range(7, 1, -1)),
    ("float8_e4m3", "per-channel(0)", True),
)
_INTRODUCTION = """\
# Speed of quantization

How long it takes to quantize, and how far that is from what the machine can do with the same bytes. Written by
`nox -s bench_quantization`. A step and its bound run in turn in one process; *times the bound* is the median of the
rounds, with the quartiles, and GB/s count the bytes that are named.

Machine: {cpu}; torch {torch}, {threads} threads.
"""
_BUDGET_S = 1.0
_LAYERS = 8


@attrs.frozen
class Step:
    """What is measured, and the least that it could take.

    Args:
        name: of the row.
        run: the step.
        bound: the least work on the same bytes.
        bound_name: in words.
        nbytes: what GB/s count.
    """

    name: str
    run: Callable[[], object]
    bound: Callable[[], object]
    bound_name: str
    nbytes: int


def weights(shape: tuple[int, ...]) -> Iterator[Step]:
    """Quantizing one weight, and making it float again; GB/s of float32."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    other = torch.empty_like(weight)
    step = partial(Step, nbytes=weight.nbytes)
    copied = {"bound": partial(other.copy_, weight), "bound_name": "a copy to memory in use"}
    made = {"bound": weight.clone, "bound_name": "a copy to new memory"}
    for saturation in ("pair-safe", "full-range"):
        yield step(f"`quantize_weight`, {saturation}", partial(quantize_weight, weight, saturation), **copied)
    yield step("`is_pair_safe`", partial(is_pair_safe, quantize_weight(weight)[0]), **copied)
    for dtype, granularity, symmetric in ENCODINGS:
        spec = WeightSpec(dtype=dtype, symmetric=symmetric, granularity=granularity, shape=shape)
        stored = encode(weight, spec)
        yield step(f"encode, {spec}", partial(encode, weight, spec), **copied)
        yield step(f"decode, {spec}", partial(decode, stored, spec), **made)


def packing() -> Iterator[Step]:
    """Codes of a byte to packed bytes and back, 1 MB at a time as weights are; GB/s of codes."""
    generator = torch.Generator().manual_seed(0)
    for bits in range(7, 1, -1):
        codes = torch.randint(0, 2**bits, (256, 4096), dtype=torch.uint8, generator=generator)
        packed = pack(codes, bits)
        step = partial(Step, bound=codes.clone, bound_name="a copy of the codes", nbytes=codes.nbytes)
        yield step(f"pack, {bits} bits", partial(pack, codes, bits))
        yield step(f"unpack, {bits} bits", partial(unpack, packed, codes.shape[1], bits))


def kernel_packing() -> Iterator[Step]:
    """What the kernels make of a weight before it runs; GB/s of int8."""
    codes, scale = quantize_weight(torch.randn(4096, 4096, generator=torch.Generator().manual_seed(0)))
    op = QuantizedOp(
        kind="linear", weight=codes, weight_scale=scale, bias=None, input_scale=0.02, input_zero_point=128
    )  # fmt: skip
    for kernel in (FbgemmKernel(), OnednnKernel()):
        run = partial(kernel.pack, op)
        yield Step(f"`{type(kernel).__name__}.pack`", run, codes.clone, "a copy to new memory", codes.nbytes)


def files(folder: Path) -> Iterator[Step]:
    """Saving and loading 256 MB of int8, and quantizing a checkpoint of 512 MB; GB/s of the file that is read."""
    state = {f"layers.{i}.weight": torch.randint(-127, 128, (4096, 4096), dtype=torch.int8) for i in range(16)}
    size = sum(tensor.nbytes for tensor in state.values())
    content = bytes(size)
    written, raw = folder / "model.safetensors", folder / "raw"
    yield Step("save", partial(save_model, state, written), partial(_write, raw, content), "write and fsync", size)
    step = partial(Step, bound=partial(_read_all, written), nbytes=size)
    yield step("load", partial(load_model, written), bound_name="safetensors' own, mapped")
    step = partial(Step, bound=partial(_sum_all, written), nbytes=size)
    yield step("load and read", lambda: _total(load_model(written)), bound_name="safetensors' own, mapped and read")
    floats = {f"layers.{i}.weight": torch.randn(4096, 4096) for i in range(_LAYERS)}
    source, target = folder / "float.safetensors", folder / "quantized.safetensors"
    save_model(floats, source)
    size = source.stat().st_size
    for scheme, share in (("int8-weight-only", 4), ("int4-weight-only", 8), ("bfloat16", 2)):
        yield Step(
            f"quantize a checkpoint, {scheme}",
            lambda scheme=scheme: quantize(str(source), scheme=scheme).save(str(target)),  # type: ignore[misc]
            lambda share=share: (source.read_bytes(), _write(raw, content[: size // share])),  # type: ignore[misc]
            "read it, write as much and fsync",
            size,
        )


def models() -> Iterator[tuple[str, ...]]:
    """A model of 40 layers quantized without data: milliseconds with all checks, each of them alone, and none."""
    model = nn.Sequential(*(nn.Linear(1024, 1024) for _ in range(40)))
    checks = ("sqnr", "size", "weight-range", "load-run")
    chosen: list[tuple[str, ...]] = [checks, (), *((name,) for name in checks)]
    for scheme in ("int8-weight-only", "int8-dynamic", "int4-weight-only"):
        none = partial(Quantizer(scheme, validators=(), show_progress=False).quantize, model)
        row = [scheme]
        for names in chosen:
            run = partial(Quantizer(scheme, validators=names, show_progress=False).quantize, model)
            turns = in_turn(run, none, budget_s=_BUDGET_S)
            row.append(f"{sorted(turns.first)[len(turns.first) // 2]:.0f}")
        yield tuple(row)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _read_all(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping


def _total(tensors: dict[str, Tensor]) -> int:
    return sum(int(tensor.view(torch.int64).sum()) for tensor in tensors.values())


def _sum_all(path: Path) -> int:
    return _total(_read_all(path))


def _rows(steps: Iterator[Step]) -> Iterator[tuple[str, ...]]:
    for step in steps:
        turns = in_turn(step.run, step.bound, budget_s=_BUDGET_S)
        low, middle, high = turns.ratios
        milliseconds = sorted(turns.first)[len(turns.first) // 2]
        speed = f"{step.nbytes / milliseconds / 1e6:.2f}"
        yield step.name, f"{milliseconds:.2f}", speed, f"**{middle:.1f}** ({low:.1f} to {high:.1f})", step.bound_name


def _further_quantizer(count: int = 20) -> float:
    """Median milliseconds of a further `Quantizer` of a process."""
    times = []
    for _ in range(1 + count):
        start = time.perf_counter()
        Quantizer()
        times.append((time.perf_counter() - start) * 1e3)
    return sorted(times[1:])[count // 2]


def _weights(shape: tuple[int, ...]) -> Iterator[str]:
    yield from table(_HEAD, [*_rows(weights(shape))])


def _packing() -> Iterator[str]:
    yield from table(_HEAD, [*_rows(packing())])


def _kernels() -> Iterator[str]:
    yield from ("Packed by torch's own operators.", "", *table(_HEAD, [*_rows(kernel_packing())]))


def _files() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield from table(_HEAD, [*_rows(files(Path(folder)))])


def _models() -> Iterator[str]:
    yield from ("`Linear(1024, 1024)`, without data; milliseconds.", "")
    names = ("scheme", "all checks", "none", "sqnr alone", "size alone", "weight-range alone", "load-run alone")
    yield from table(names, [*models()])


def _start() -> Iterator[str]:
    started, found = imports.main(), discovery.main()
    yield (
        f"`import mono_quant` adds {started['import_ms']:.1f} ms to `import torch`. The first `Quantizer()` of a "
        f"process takes {found['0']:.0f} ms once it is imported, with 100 third-party plugins {found['100']:.0f} "
        f"ms; each further one {_further_quantizer():.1f} ms."
    )


_HEAD = ("step", "ms", "GB/s", "times the bound", "bound")
SECTIONS: dict[str, Callable[[], Iterator[str]]] = {
    **{f"A weight of {' x '.join(map(str, shape))}": partial(_weights, shape) for shape in SHAPES},
    "Packing": _packing,
    "Kernels": _kernels,
    "Files": _files,
    "Calibration": calibration_speed.lines,
    "A model of 40 layers": _models,
    "Import and discovery": _start,
}
"""Title → its lines."""


def _page(kept: str, only: str | None) -> Iterator[str]:
    """The page; with ``only``, all but that section as it was."""
    introduction, *sections = re.split(r"^## ", kept, flags=re.MULTILINE)
    before = {section.partition("\n")[0]: section.partition("\n")[2].strip() for section in sections}
    machine = _INTRODUCTION.format(cpu=cpu(), torch=torch.__version__, threads=torch.get_num_threads())
    yield (introduction if only else machine).strip()
    for title, lines in SECTIONS.items():
        if only in (None, title):
            yield f"## {title}\n\n" + "\n".join(lines())
        elif title in before:
            yield f"## {title}\n\n{before[title]}"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=PAGE)
    parser.add_argument("--only", choices=SECTIONS, help="measure this section alone and keep the others of the page")
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    kept = told.output.read_text(encoding="utf-8") if told.only else ""
    told.output.write_text("\n\n".join(_page(kept, told.only)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
