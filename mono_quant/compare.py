"""Two files beside each other, layer by layer: dtypes, bytes, and how far the weights are from one another."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import attrs
from torch import Tensor

from mono_quant.core.encoding import decode
from mono_quant.core.sqnr import energy, ratio_db
from mono_quant.io.artifact import expand_ties
from mono_quant.io.naming import naming
from mono_quant.io.stored_weights import refuse_misfits, tensors_beside, weight_specs
from mono_quant.saved import manifest_of, read_artifact

__all__ = ["Comparison", "LayerComparison", "Stored", "compare_files"]


@attrs.frozen(kw_only=True)
class Stored:
    """The tensors of a layer, or of a whole file.

    Args:
        dtypes: dtype → how many tensors have it.
        bytes: of all of them, each shared one once.
    """

    dtypes: dict[str, int]
    bytes: int


@attrs.frozen(kw_only=True)
class LayerComparison:
    """One layer in two files.

    Args:
        name: of the layer; ``""`` for tensors of the model itself.
        first: what the first file holds of it; None when it holds nothing.
        second: the same of the second.
        sqnr_db: of the second file's float tensors, dequantized ones too, against the first's of the same name and
            shape; ``inf`` when they are equal, None when there are none or a rewrite has changed the layer in one file.
    """

    name: str
    first: Stored | None
    second: Stored | None
    sqnr_db: float | None


@attrs.frozen(kw_only=True)
class Comparison:
    """Two files.

    Args:
        first: all tensors of the first.
        second: all tensors of the second.
        ratio: bytes of the first over those of the second; None when the second holds none.
        sqnr_db: over all tensors that the layers' figures are over.
        layers: in the order of the first file, then what only the second holds.
    """

    first: Stored
    second: Stored
    ratio: float | None
    sqnr_db: float | None
    layers: tuple[LayerComparison, ...]


def compare_files(first: str | Path, second: str | Path, *, plugins: Iterable[object] = ()) -> Comparison:
    """Compare two files; the weights of one layer at a time are dequantized.

    Args:
        first: what the second is measured against.
        second: the other one; each may be float or quantized, of any format.
        plugins: as in `Quantizer`.

    Raises:
        ArtifactError: when a file cannot be read, or its manifest is not well formed or does not fit its tensors.
    """
    plugins = tuple(plugins)
    one, other = (_File(path, plugins) for path in (first, second))
    layers = []
    total: list[tuple[float, float]] = []
    for name in dict.fromkeys([*one.layers, *other.layers]):
        energies = [] if name in one.rewritten ^ other.rewritten else list(_energies(one, other, name))
        total += energies
        layers.append(
            LayerComparison(name=name, first=one.stored(name), second=other.stored(name), sqnr_db=_sqnr(energies))
        )
    before, after = (_stored(file.tensors.values()) for file in (one, other))
    return Comparison(
        first=before,
        second=after,
        ratio=before.bytes / after.bytes if after.bytes else None,
        sqnr_db=_sqnr(total),
        layers=tuple(layers),
    )


class _File:
    """What comparing asks of a file; the arguments are those of `read_artifact`, and so are the errors."""

    def __init__(self, path: str | Path, plugins: Iterable[object]) -> None:
        artifact = read_artifact(path, plugins)
        is_quantized = artifact.manifest is not None and "layers" in artifact.manifest
        manifest = manifest_of(artifact, path) if is_quantized else None
        plans = manifest.layers if manifest else {}
        self.rewritten = {name for rewrite in (manifest.rewrites if manifest else ()) for name in rewrite.layers}
        self.specs = weight_specs(plans)
        self.beside = tensors_beside(plans)
        self.tensors = artifact.tensors
        with naming(path):
            self.all = expand_ties(artifact)
            refuse_misfits(self.specs, self.all, self.all.__getitem__)
        self.layers: dict[str, list[str]] = {}
        for name in self.all:
            self.layers.setdefault(name.rpartition(".")[0], []).append(name)

    def stored(self, layer: str) -> Stored | None:
        """The tensors of a layer; those that are stored under the name of another one weigh nothing."""
        names = self.layers.get(layer)
        if names is None:
            return None
        weighing = [self.tensors[name] for name in names if name in self.tensors]
        return Stored(dtypes=_dtypes(self.all[name] for name in names), bytes=_bytes(weighing))

    def number(self, name: str) -> Tensor | None:
        """A tensor as the floats that it stands for; None when it stands for none, or only helps another to."""
        tensor = self.all.get(name)
        if tensor is None or name in self.beside:
            return None
        if name in self.specs:
            spec = self.specs[name]
            return decode({suffix: self.all[name + suffix] for suffix in spec.layout}, spec)
        return tensor if tensor.is_floating_point() else None


def _energies(one: _File, other: _File, layer: str) -> Iterator[tuple[float, float]]:
    """For each tensor that both files have: its energy, and that of the difference."""
    for name in one.layers.get(layer, ()):
        x, y = one.number(name), other.number(name)
        if x is not None and y is not None and x.shape == y.shape:
            yield energy(x, y)


def _sqnr(energies: list[tuple[float, float]]) -> float | None:
    if not energies:
        return None
    return ratio_db(sum(signal for signal, _ in energies), sum(noise for _, noise in energies))


def _stored(tensors: Collection[Tensor]) -> Stored:
    return Stored(dtypes=_dtypes(tensors), bytes=_bytes(tensors))


def _dtypes(tensors: Iterable[Tensor]) -> dict[str, int]:
    return dict(Counter(str(tensor.dtype).removeprefix("torch.") for tensor in tensors))


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
