"""The schemes that real models are quantized with, each by a name for tables."""

from collections.abc import Mapping

from mono_quant import Quantizer

__all__ = ["SCHEMES", "quantizer_for"]

_FITTED = {"misfit": "adjust"}

SCHEMES: dict[str, Mapping[str, object]] = {
    "int8-static": {"name": "int8-static"},
    "int8-static full-range": {"name": "int8-static", "saturation": "full-range"},
    "int8-dynamic": {"name": "int8-dynamic"},
    "int8-dynamic per-token": {"name": "int8-dynamic", "activations": "per-token"},
    "int8-weight-only": {"name": "int8-weight-only"},
    "int4-weight-only": {"name": "int4-weight-only", **_FITTED},
    "int4-weight-only symmetric": {"name": "int4-weight-only", "symmetric": True, **_FITTED},
    "int4-weight-only, hqq": {"name": "int4-weight-only", **_FITTED},
    "int3-weight-only": {"name": "int3-weight-only", **_FITTED},
    "int3-weight-only, hqq": {"name": "int3-weight-only", **_FITTED},
    "int2-weight-only": {"name": "int2-weight-only", **_FITTED},
    "int2-weight-only, hqq": {"name": "int2-weight-only", **_FITTED},
    "float8-weight-only": {"name": "float8-weight-only"},
    "float16": {"name": "float16"},
    "bfloat16": {"name": "bfloat16"},
}
"""Groups, where there are any, are of 128, or of what is below that and divides. After a comma stands an algorithm."""


def quantizer_for(scheme: str, **options: object) -> Quantizer:
    """A quantizer for one of `SCHEMES` that measures nothing.

    Its kernels are chosen by name, and are those that add no rounding of their own: figures are the scheme's, and no
    chance of a busy machine is in them.
    """
    wanted = SCHEMES[scheme]
    algorithms = ("bn-fold", *scheme.split(", ")[1:])
    kernel = "onednn" if wanted["name"] in {"int8-static", "int8-dynamic"} else "dequantize"
    return Quantizer(wanted, algorithms=algorithms, kernel=kernel, show_progress=False, **options)
