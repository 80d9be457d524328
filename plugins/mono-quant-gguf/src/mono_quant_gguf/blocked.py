"""The weights of an artifact that go into blocks."""

from collections.abc import Mapping

import attrs
from mono_quant.core.encoding import decode
from mono_quant.plugin_api import Artifact, WeightSpec
from torch import Tensor

from mono_quant_gguf.blocks import Array, decode_blocks, encode_blocks, halves
from mono_quant_gguf.half import Halves
from mono_quant_gguf.kinds import BlockKind, kind_of, why_not
from mono_quant_gguf.manifest import weights_of
from mono_quant_gguf.plain import why_not_plain

__all__ = ["BlockedWeight", "blocked_weights"]

_HOW_TO_ROUND = 'give round_scales=True, as in format={"name": "gguf", "round_scales": True}'


@attrs.frozen(kw_only=True, eq=False)
class BlockedWeight:
    """A quantized weight that goes into blocks.

    Args:
        name: of its codes.
        layer: whose weight it is.
        spec: how it is stored.
        stored: its tensors by suffix.
    """

    name: str
    layer: str
    spec: WeightSpec
    stored: Mapping[str, Tensor]

    @property
    def kind(self) -> BlockKind:
        """The blocks that hold it.

        Raises:
            TypeError: when it is not made of codes.
        """
        kind = kind_of(self.spec)
        if kind is None:
            raise TypeError(f"{self.name} has no codes")
        return kind

    @property
    def parts(self) -> list[str]:
        """Names of its tensors."""
        return [self.name + suffix for suffix in self.spec.suffixes]

    def why_not(self, *, can_round: bool) -> str:
        """Why it has no place in blocks; empty when it has."""
        layer = f"layer {self.layer or '(model)'!r}"
        if why := why_not(self.spec):
            return f"{layer}: {self.name} is {self.spec}: {why}"
        for suffix, (dtype, shape) in self.spec.layout.items():
            tensor = self.stored.get(suffix)
            if tensor is None or tensor.dtype != dtype or tuple(tensor.shape) != shape or why_not_plain(tensor):
                return f"{layer}: {self.name}{suffix} must be {dtype}{list(shape)}, as the manifest says"
        fits = self.halves(can_round=can_round).fits
        if fits.all():
            return ""
        count = f"{layer}: {(~fits).sum():,} of {fits.size:,} scales of {self.name}"
        if can_round:
            return f"{count} are too small or too large to be float16 numbers: keep the layer in float"
        what = "scales and minimums" if self.kind.has_minimum else "scales"
        return (
            f"{count} do not fit blocks, whose {what} are float16: {_HOW_TO_ROUND}, to move them to the nearest that do"
        )

    def halves(self, *, can_round: bool) -> Halves:
        """The scales and minimums of its groups."""
        return halves(self.stored, self.spec, self.kind, can_round=can_round)

    def blocks(self, scales: Halves) -> Array:
        """Its bytes, uint8 ``(C, bytes)``."""
        return encode_blocks(self.stored[""], self.spec, self.kind, scales)

    def energies(self, scales: Halves) -> tuple[float, float]:
        """Energy of its weights, and of what moving its scales does to them."""
        was = decode(self.stored, self.spec).double()
        moved = decode(decode_blocks(self.blocks(scales), self.spec, self.kind), self.spec) - was
        return float(was.square().sum()), float(moved.square().sum())


def blocked_weights(artifact: Artifact) -> dict[str, BlockedWeight]:
    """The quantized weights whose codes are in the artifact, by name; of a tied one the first name.

    Raises:
        ArtifactError: when a layer in the manifest is not well formed.
    """
    ties = (artifact.manifest or {}).get("ties")
    first = ties if isinstance(ties, dict) else {}
    found = {}
    for name, (layer, spec) in weights_of(artifact.manifest).items():
        if name in artifact.tensors and spec.is_scaled:
            names = {suffix: str(first.get(name + suffix, name + suffix)) for suffix in spec.suffixes}
            stored = {suffix: artifact.tensors[n] for suffix, n in names.items() if n in artifact.tensors}
            found[name] = BlockedWeight(name=name, layer=layer, spec=spec, stored=stored)
    return found
