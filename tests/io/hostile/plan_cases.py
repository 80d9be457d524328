"""Files of either format whose manifest is well formed, and describes another model or what is not installed.

`load_model`, which knows no model, gives their tensors.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from everything import Everything
from hostile_case import Case, Scene, read, with_manifest, write
from json_changes import Change, every, renamed
from manifest_cases import TERMINAL

from mono_quant import save_model
from mono_quant.errors import ArtifactError, MonoQuantError, UnknownPluginError

BOTH = (".safetensors", ".pt")
IMPORTABLE = "hostile_planted:Scheme"
"""Would be imported if names in files were; the module is there, and leaves a mark."""


def bad(name: str, make: Callable[[Scene], object], words: str, error: type[MonoQuantError] = ArtifactError) -> Case:
    return Case(name, BOTH, make, words, tensors_are_fine=True, error=error)


def layers(change: Change) -> Callable[[Scene], None]:
    """The same change of the plan of each layer."""
    return with_manifest(lambda data: [change(plan) for plan in data["layers"].values()])


def stored(**values: Any) -> Callable[[Scene], None]:  # noqa: ANN401
    """The linear layers' weight, of as many inputs as outputs, is said to be stored in another way."""
    return with_manifest(
        lambda data: [data["layers"][name]["weights"]["weight"].update(values) for name in ("up", "down")]
    )


def fed(**values: Any) -> Callable[[Scene], None]:  # noqa: ANN401
    """Another way to quantize inputs."""
    return layers(lambda plan: plan["input"].update(values))


def layer(new_name: str) -> Callable[[Scene], None]:
    return with_manifest(renamed("layers", "up", new_name))


def rewrite(**values: Any) -> Callable[[Scene], None]:  # noqa: ANN401 - JSON
    return with_manifest(lambda data: [one.update(values) for one in data["rewrites"]])


def recipe(**values: Any) -> Callable[[Scene], None]:  # noqa: ANN401
    return with_manifest(lambda data: data["config"].update(values))


def options(**values: str) -> Callable[[Scene], None]:
    return with_manifest(lambda data: data["config"]["scheme"].update(options=values))


def a_float_file(scene: Scene) -> None:
    save_model(Everything(), scene.path)


def no_manifest(scene: Scene) -> None:
    write(scene.path, read(scene.good)[0], None)


def named_as_a_path(scene: Scene) -> None:
    layer(str(Path("..") / scene.mark))(scene)


def unknown(name: str, make: Callable[[Scene], object], words: str) -> Case:
    return bad(name, make, words, UnknownPluginError)


CASES = [
    bad("a file without a manifest", no_manifest, "no mono_quant manifest"),
    bad("a file of float weights", a_float_file, "no mono_quant manifest"),
    bad("a layer that the model does not have", layer("upper"), "no layer 'upper'"),
    bad("a layer whose name is a path", named_as_a_path, "no layer"),
    bad("a layer whose name acts on terminals", layer(TERMINAL), "no layer"),
    bad("a layer that is the whole model", layer(""), "layer '' is Everything"),
    bad("a layer that is left out", with_manifest(lambda data: data["layers"].pop("up")), "missing|unexpected"),
    bad("layers of another type", layers(every("layer_type", "Embedding")), "in the model and Embedding"),
    bad("layers of a type to be imported", layers(every("layer_type", IMPORTABLE)), "in the model and hostile_planted"),
    bad("a scale for each input in place of each output", stored(granularity="per-channel(1)"), "does not store a wei"),
    bad("one scale for all of a weight", stored(granularity="per-tensor"), "does not store a weight as int8 symm"),
    bad(
        "a scale for each group of weights", stored(granularity="per-group(2)"), "does not store a weight as int8 symm"
    ),
    bad("weights with zero points", stored(symmetric=False), "does not store a weight as int8 asymmetric"),
    bad("weights of another size", stored(dtype="int4"), "does not store a weight as int4"),
    bad("weights that are float8", stored(dtype="float8_e4m3"), "does not store a weight as float8"),
    bad("inputs of signed codes", fed(dtype="int8"), "does not quantize its input as int8 asymmetric"),
    bad("inputs of 4 bits", fed(dtype="int4"), "does not quantize its input as int4"),
    bad("inputs without a zero point", fed(symmetric=True), "does not quantize its input as uint8 symmetric"),
    bad("inputs with many ranges", fed(granularity="per-channel(0)"), "does not quantize its input as .* per-chan"),
    bad("inputs whose range is found later", fed(is_dynamic=True), "does not quantize its input as .* dynamic"),
    bad("inputs that are float", layers(every("input", None)), "does not quantize its input as float"),
    unknown("a scheme that no plugin has", layers(every("scheme", "nf3")), "no scheme is named 'nf3'"),
    unknown("a scheme to be imported", layers(every("scheme", IMPORTABLE)), "no scheme is named 'hostile_planted"),
    unknown("an algorithm that no plugin has", rewrite(algorithm="magic"), "no algorithm is named 'magic'"),
    unknown("an algorithm to be imported", rewrite(algorithm=IMPORTABLE), "no algorithm is named 'hostile_planted"),
    bad("a rewrite of layers that the model does not have", rewrite(layers=["a", "b"]), "no layer 'a', 'b'"),
    bad("a rewrite of layers that it is not for", rewrite(layers=["up", "table"]), "cannot be repeated"),
    bad("a rewrite of no layers", rewrite(layers=[]), "cannot be repeated"),
    bad(
        "a rewrite that is there twice",
        with_manifest(lambda data: data["rewrites"].append(*data["rewrites"])),
        "cannot be",
    ),
]
HARMLESS = [
    Case("options that name files", BOTH, options(path="/etc/passwd", file="../../secret")),
    Case("options that name imports", BOTH, options(factory=IMPORTABLE, batch_fn=IMPORTABLE)),
    Case("components to be imported", BOTH, recipe(observer={"name": IMPORTABLE, "options": {}}, kernel=IMPORTABLE)),
    Case("patterns that would take for ever to match", BOTH, recipe(include=["re:(a+)+b"])),
]
"""The recipe in a file is a record of the past: loading carries none of it out."""
