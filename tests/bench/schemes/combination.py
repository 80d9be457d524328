"""One scheme on some layers: saved, compared with theory byte by byte, loaded, and run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from torch import Tensor, nn

from mono_quant import Quantizer
from mono_quant.errors import UnsupportedLayerError
from mono_quant.plugin_api import Plan

from .arithmetic import Error, float64_twin, kernel_errors, layer_error, ops_of, run, same_bits, use
from .claims import expected_tensors, wrong_in_file, wrong_in_pt, wrong_weights
from .layers import LayerCase, Layers
from .storage import PARTS, MisfitError, header_of, weight_tensors
from .stored_file import LENGTH_BYTES, StoredFile
from .variants import Variant

__all__ = ["Finding", "Refusal", "check", "planned", "quantizer_for"]


@attrs.frozen(kw_only=True)
class Finding:
    """What was found of one file.

    Args:
        float_bytes: of the layers' tensors before.
        parts: bytes that theory gives to each of `PARTS`.
        header: bytes of the header with its length, by theory.
        size: of the file.
        errors: kernel, or what runs where there is no choice → its error.
        changed: layers and kernels that give other bits when they are loaded.
        wrong: every other claim that does not hold.
    """

    float_bytes: int
    parts: Mapping[str, int]
    header: int
    size: int
    errors: Mapping[str, Error]
    changed: tuple[str, ...]
    wrong: tuple[str, ...]

    @property
    def theory(self) -> int:
        return self.header + sum(self.parts.values())


@attrs.frozen
class Refusal:
    """Why a scheme raises for a layer; ``is_expected`` when theory has no groups for it either."""

    reason: str
    is_expected: bool


def quantizer_for(variant: Variant) -> Quantizer:
    """With nothing that would measure, or that another machine could have besides."""
    overrides: dict[Any, Any] = {f"*{end}": {"scheme": other.wanted} for end, other in variant.overrides.items()}
    return Quantizer(
        variant.wanted, overrides=overrides, validators=(), algorithms=(), show_progress=False, autoload=False
    )


def planned(quantizer: Quantizer, variant: Variant, case: LayerCase) -> Plan | Refusal:
    """What the scheme would do with a layer; a plan without layers keeps it in float."""
    model = Layers(case)
    try:
        return quantizer.plan(model)
    except UnsupportedLayerError as error:
        return Refusal(str(error), is_expected=_is_misfit(model, variant, case))


def check(quantizer: Quantizer, variant: Variant, cases: Sequence[LayerCase], folder: Path) -> Finding:
    """Quantize layers side by side in one model, save them in both formats, load them, run them."""
    model, inputs = Layers(*cases), {case.name: case.inputs() for case in cases}
    plan = quantizer.plan(model)
    result = quantizer.quantize(model, [inputs] if any(layer.needs_data for layer in plan.layers.values()) else None)
    paths = [folder / "model.safetensors", folder / "model.pt"]
    models = [result.model]
    for path in paths:
        result.save(path)
        models.append(quantizer.load(path, Layers(*cases)))
    file = StoredFile.read(paths[0])
    expected = expected_tensors(model, plan, variant, cases)
    weights = file.weights()
    errors: dict[str, Error] = {}
    wrong = [
        *wrong_in_file(file, expected, model.state_dict()),
        *wrong_in_pt(paths[1], file),
        *wrong_weights(models[1], weights),
    ]
    changed = []
    for case in cases:
        own = f"{case.name}."
        layers = [one.get_submodule(case.name) for one in models]
        are_floats = all(layer.input is None for name, layer in plan.layers.items() if f"{name}.".startswith(own))
        own_weights = {name.removeprefix(own): weight for name, weight in weights.items() if name.startswith(own)}
        twin = float64_twin(model.get_submodule(case.name), own_weights) if are_floats else None
        found, with_other_bits = _run(quantizer, layers, inputs[case.name], twin)
        changed += [f"{case.title} gives other bits when it is loaded, with {name}" for name in with_other_bits]
        for name, error in found.items():
            errors[name] = max(error, errors.get(name, error), key=lambda error: error.steps)
            if error.steps > error.limit:
                wrong.append(f"{case.title} is {error.steps:.3g} steps from what is exact, with {name}")
    finding = Finding(
        float_bytes=sum(tensor.nbytes for tensor in model.state_dict().values()),
        parts={part: sum(t.nbytes for t in expected.values() if t.part == part) for part in PARTS},
        header=LENGTH_BYTES + len(header_of(expected, file.entries, file.metadata)),
        size=file.size, errors=errors, changed=tuple(changed), wrong=tuple(wrong),
    )  # fmt: skip
    if finding.theory == finding.size:
        return finding
    return attrs.evolve(finding, wrong=(f"the file has {finding.size} bytes, not {finding.theory}", *wrong))


def _run(
    quantizer: Quantizer, layers: Sequence[nn.Module], inputs: tuple[Tensor, ...], twin: nn.Module | None
) -> tuple[dict[str, Error], list[str]]:
    """The errors of a layer by kernel, and the kernels with which it gives other bits when it is loaded.

    Args:
        quantizer: has the kernels.
        layers: the quantized layer, and what was loaded from each format.
        inputs: of the layer.
        twin: in float64; None where inputs are quantized: then a rounding may change a code that comes later.
    """
    kernels = dict(quantizer.components.kernels)
    reference = ("reference", kernels["reference"])
    ops = ops_of(layers[0], inputs)
    errors = kernel_errors(kernels.items(), ops)
    with_other_bits = []
    for name in [*errors, "reference"]:
        outputs = []
        for layer in layers:
            use(layer, ((name, kernels[name]), reference), name)
            outputs.append(run(layer, inputs))
        if not all(same_bits(outputs[0], other) for other in outputs[1:]):
            with_other_bits.append(name)
    if twin is not None:
        exact = run(twin, tuple(x.double() if x.is_floating_point() else x for x in inputs))
        terms = max(parameter[0].numel() for parameter in twin.parameters())
        runs = ["reference"] if ops else _in_use(layers[0])
        errors |= dict.fromkeys(runs, layer_error(outputs[0], exact, terms))  # of the reference, which came last
    return errors, with_other_bits


def _in_use(layer: nn.Module) -> list[str]:
    """What runs the layers inside of one that has no choice."""
    names = [name for module in layer.modules() for name in getattr(module, "kernels_in_use", ())]
    return list(dict.fromkeys(names))


def _is_misfit(model: nn.Module, variant: Variant, case: LayerCase) -> bool:
    """Whether theory has no groups for one of the weights."""
    try:
        for parameter in model.parameters():
            if parameter.ndim > 1:
                weight_tensors("weight", tuple(parameter.shape), case.channel_axis, variant.storage)
    except MisfitError:
        return True
    return False
