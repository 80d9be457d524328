"""How a tensor is quantized, as a record that can be written down."""

import math

import attrs
import torch
from attrs.validators import instance_of

from mono_quant.core.granularity import Granularity, PerChannel, PerGroup, PerTensor, as_granularity
from mono_quant.core.packing import packed_width
from mono_quant.core.qtypes import INT8, UINT8, QType, as_qtype
from mono_quant.errors import ConfigurationError

__all__ = ["TensorSpec", "WeightSpec"]

_UNSCALED = (torch.float16, torch.bfloat16)


def _granularity(value: "Granularity | str") -> Granularity:
    return as_granularity(value) if isinstance(value, str) else value


@attrs.frozen(kw_only=True)
class TensorSpec:
    """How one tensor is quantized.

    Args:
        dtype: type of the codes.
        symmetric: whether the range is centred on zero.
        granularity: which elements share a scale; also as text, ``"per-channel(0)"``.
        is_dynamic: whether the range is found anew for each tensor when the model runs.
    """

    dtype: QType = attrs.field(converter=as_qtype)
    symmetric: bool = attrs.field(validator=instance_of(bool))
    granularity: Granularity = attrs.field(converter=_granularity)
    is_dynamic: bool = attrs.field(default=False, validator=instance_of(bool))

    def __str__(self) -> str:
        if not self.is_scaled:
            return self.dtype.name
        words = [self.dtype.name, "symmetric" if self.symmetric else "asymmetric", str(self.granularity)]
        return " ".join([*words, "dynamic"] if self.is_dynamic else words)

    @property
    def is_scaled(self) -> bool:
        """Whether codes are multiples of a scale; half-precision numbers are not."""
        return self.dtype.storage not in _UNSCALED


def _shape(shape: "tuple[int, ...] | torch.Size") -> tuple[int, ...]:
    return tuple(shape)


def _is_shape(_: object, field: "attrs.Attribute[tuple[int, ...]]", value: tuple[int, ...]) -> None:
    if not all(type(size) is int and size >= 0 for size in value):
        raise ConfigurationError(f"the {field.name} of a weight must be whole numbers of at least 0, got {value!r}")


def _is_float(_: object, field: "attrs.Attribute[str]", value: str) -> None:
    dtype = vars(torch).get(value)  # not getattr, by which torch imports what a file may name
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ConfigurationError(f"{field.name} must be the name of a float dtype of torch, got {value!r}")


@attrs.frozen(kw_only=True)
class WeightSpec(TensorSpec):
    """How a parameter is stored.

    ===================  =================  ==========================================================
    tensor of a layer    dtype              shape, for C channels along the granularity's axis, K each
    ===================  =================  ==========================================================
    ``<p>``              ``dtype.storage``  the parameter's; packed codes ``(C, packed_width(K, bits))``
    ``<p>_scale``        float32            ``()``, ``(C,)`` or ``(C, ceil(K / g))``
    ``<p>_zero_point``   int8               like the scale, only when asymmetric
    ===================  =================  ==========================================================

    Args:
        shape: of the float parameter.
        float_dtype: name of its dtype, ``"float32"``.

    Raises:
        ConfigurationError: for a combination that no weight can have.
    """

    shape: tuple[int, ...] = attrs.field(converter=_shape, validator=_is_shape)
    float_dtype: str = attrs.field(default="float32", validator=[instance_of(str), _is_float])

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.granularity, PerTensor | PerChannel | PerGroup):
            raise ConfigurationError(f"a weight cannot be quantized {self.granularity}")
        if not self.shape or not -len(self.shape) <= self.axis < len(self.shape):
            raise ConfigurationError(f"{self.granularity} does not fit a weight of shape {self.shape}")
        if self.dtype.is_float and not self.symmetric:
            raise ConfigurationError(f"{self.dtype.name} weights are symmetric")
        if self.dtype == UINT8:
            raise ConfigurationError("uint8 codes are for activations; the codes of weights are signed: int2 to int8")
        if self.is_dynamic:
            raise ConfigurationError("a weight is quantized once: its range is not dynamic")

    @property
    def code_type(self) -> QType:
        """The dtype, narrowed to the codes that may occur: symmetric int8 does without -128, as kernels expect."""
        return attrs.evolve(self.dtype, qmin=-self.dtype.qmax) if self.symmetric and self.dtype == INT8 else self.dtype

    @property
    def axis(self) -> int:
        """The axis that the channels run along; 0 where all elements share one scale."""
        return getattr(self.granularity, "axis", 0)

    @property
    def channels(self) -> int:
        """How many channels there are."""
        return self.shape[self.axis]

    @property
    def per_channel(self) -> int:
        """How many elements each channel has."""
        return math.prod(self.shape) // self.channels if self.channels else 0

    @property
    def group_size(self) -> int:
        """How many elements of a channel share a scale; at least 1, at most all of them."""
        whole = max(1, self.per_channel)
        return min(self.granularity.size, whole) if isinstance(self.granularity, PerGroup) else whole

    @property
    def groups(self) -> int:
        """How many groups each channel has."""
        return -(-self.per_channel // self.group_size)

    @property
    def dequantized_dtype(self) -> torch.dtype:
        """The dtype that ``float_dtype`` names."""
        dtype: torch.dtype = getattr(torch, self.float_dtype)
        return dtype

    @property
    def suffixes(self) -> tuple[str, ...]:
        """What is added to the parameter's name for each of its tensors."""
        if not self.is_scaled:
            return ("",)
        return ("", "_scale") if self.symmetric else ("", "_scale", "_zero_point")

    @property
    def layout(self) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """Suffix of the tensor's name → its dtype and shape: ``""``, ``"_scale"``, ``"_zero_point"``."""
        dtype = self.dtype
        codes = (self.channels, packed_width(self.per_channel, dtype.bits)) if dtype.is_packed else self.shape
        shapes = {"": codes, "_scale": self._scale_shape, "_zero_point": self._scale_shape}
        dtypes = {"": dtype.storage, "_scale": torch.float32, "_zero_point": torch.int8}
        return {suffix: (dtypes[suffix], shapes[suffix]) for suffix in self.suffixes}

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors."""
        return sum(math.prod(shape) * dtype.itemsize for dtype, shape in self.layout.values())

    @property
    def _scale_shape(self) -> tuple[int, ...]:
        if isinstance(self.granularity, PerTensor):
            return ()
        if isinstance(self.granularity, PerChannel):
            return (self.channels,)
        return self.channels, self.groups
