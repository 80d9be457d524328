"""Every registered scheme with its options, and how each of them stores a weight."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

import attrs

from mono_quant._plugins.manager import PluginManager

from .storage import Storage

__all__ = ["MIX", "OPTION_SCHEMES", "Variant", "defaults", "of_options", "registered"]


@attrs.frozen(kw_only=True)
class Variant:
    """A scheme with options.

    Args:
        scheme: its registry name.
        title: how the page calls it.
        options: of the scheme.
        storage: how it stores a weight.
        overrides: end of a layer's name → another variant for it.
    """

    scheme: str
    title: str
    options: Mapping[str, Any]
    storage: Storage
    overrides: Mapping[str, "Variant"] = attrs.field(factory=dict)

    @property
    def wanted(self) -> dict[str, Any]:
        """As a `Quantizer` is asked for it."""
        return {"name": self.scheme, **self.options}

    def storage_of(self, layer: str) -> Storage:
        """How the weights of a layer of that name are stored."""
        found = (other.storage for end, other in self.overrides.items() if layer.endswith(end))
        return next(found, self.storage)


_INT8 = Storage(codes="I8", bits=8)
_BITS = {f"int{bits}-weight-only": bits for bits in range(8, 1, -1)}
_GRAINS: dict[str, dict[str, Any]] = {
    "per tensor": {"granularity": "per-tensor"},
    "per channel": {"granularity": "per-channel"},
    "groups of 128": {"granularity": "per-group"},
    "groups of 128, pad": {"granularity": "per-group", "misfit": "pad"},
    "groups of 128, adjust": {"granularity": "per-group", "misfit": "adjust"},
}
OPTION_SCHEMES = (*_BITS, "float8-weight-only")
"""The schemes that have options of how weights are stored."""


def registered() -> list[str]:
    """The names of all schemes of this distribution."""
    return PluginManager.with_plugins(autoload=False).schemes.names()


def defaults(names: Iterable[str]) -> list[Variant]:
    """The registered schemes with their default options, but for the misfit of groups, which is ``"pad"``.

    Raises:
        LookupError: for a scheme of which it is not written here how it stores weights.
    """
    by_name: dict[str, list[Variant]] = {}
    for variant in _defaults():
        by_name.setdefault(variant.scheme, []).append(variant)
    unknown = set(names) - set(by_name)
    if unknown:
        raise LookupError(f"tests/bench/schemes/variants.py does not say how {sorted(unknown)} store weights")
    present = set(names)
    return [variant for name, variants in by_name.items() if name in present for variant in variants]


def of_options(scheme: str) -> list[Variant]:
    """One of `OPTION_SCHEMES` with each of its options."""
    if scheme not in _BITS:
        return [_float8(title, options) for title, options in _GRAINS.items()]
    return [
        _integers(scheme, f"{title}, {'symmetric' if symmetric else 'asymmetric'}", options, symmetric=symmetric)
        for (title, options), symmetric in product(_GRAINS.items(), (True, False))
    ]


def _defaults() -> Iterator[Variant]:
    yield Variant(scheme="int8-static", title="`int8-static`", options={}, storage=_INT8)
    for activations in ("per-tensor", "per-token"):
        title = f"`int8-dynamic`, activations {activations}"
        yield Variant(scheme="int8-dynamic", title=title, options={"activations": activations}, storage=_INT8)
    for scheme, bits in _BITS.items():
        if bits == _INT8.bits:
            yield attrs.evolve(
                _integers(scheme, "", _GRAINS["per channel"], symmetric=True), title=f"`{scheme}`", options={}
            )
        else:
            padded = _integers(scheme, "", _GRAINS["groups of 128, pad"], symmetric=False)
            yield attrs.evolve(padded, title=f'`{scheme}`, `misfit="pad"`', options={"misfit": "pad"})
    yield attrs.evolve(_float8("", _GRAINS["per channel"]), title="`float8-weight-only`", options={})
    for name, codes in (("float16", "F16"), ("bfloat16", "BF16")):
        storage = Storage(codes=codes, bits=16, scales=None)
        yield Variant(scheme=name, title=f"`{name}`", options={}, storage=storage)


def _integers(scheme: str, title: str, options: Mapping[str, Any], *, symmetric: bool) -> Variant:
    bits = _BITS[scheme]
    storage = _with_scales(Storage(codes="I8" if bits == _INT8.bits else "U8", bits=bits), options)
    return Variant(
        scheme=scheme,
        title=title,
        options={**options, "symmetric": symmetric},
        storage=attrs.evolve(storage, is_symmetric=symmetric),
    )


def _float8(title: str, options: Mapping[str, Any]) -> Variant:
    storage = _with_scales(Storage(codes="F8_E4M3", bits=8), options)
    return Variant(scheme="float8-weight-only", title=title, options=options, storage=storage)


def _with_scales(storage: Storage, options: Mapping[str, Any]) -> Storage:
    scales = options["granularity"].removeprefix("per-")
    return attrs.evolve(storage, scales=scales, misfit=options.get("misfit", "error"))


def _mix() -> Variant:
    by_name = {variant.title: variant for variant in _defaults()}
    return attrs.evolve(
        by_name['`int4-weight-only`, `misfit="pad"`'],
        title="Mixed by `overrides`",
        overrides={
            "embedding": by_name["`int8-weight-only`"],
            "out_proj": by_name["`float8-weight-only`"],
            "linear1": by_name["`int8-dynamic`, activations per-token"],
            "linear2": by_name["`bfloat16`"],
            "head": by_name["`int8-static`"],
        },
    )


MIX = _mix()
"""Several schemes in one model."""
