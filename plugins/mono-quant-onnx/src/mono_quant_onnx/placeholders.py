"""The operators of mono_quant as nodes of a graph that is not ONNX yet; `mono_quant_onnx.lowering` replaces them.

``torch.onnx`` translates a program one operator at a time, and wants to be told an ONNX function for each that it does
not know. Ours are first told to be operators of a domain of their own, with the arguments that they have.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from onnx.defs import OpSchema, register_schema
from onnxscript.values import Opset

from mono_quant_onnx.attention import attention

__all__ = ["DOMAIN", "translations"]

DOMAIN = "mono_quant"

_Value = Any
"""A tensor in the graph that is being made."""


@cache
def translations() -> dict[Callable[..., _Value], Callable[..., _Value]]:
    """Operator of torch → the function that ``torch.onnx.export`` calls with its arguments."""
    for schema in _schemas():
        register_schema(schema)
    ours = Opset(DOMAIN, 1)

    def quantize(x: _Value, scale: _Value, zero_point: _Value) -> _Value:
        return ours.quantize(x, scale, zero_point)

    def int8_layer(  # noqa: PLR0917 - an operator's arguments
        x: _Value,
        weight: _Value,
        weight_scale: _Value,
        bias: _Value,
        input_scale: _Value,
        input_zero_point: _Value,
        kind: str,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
        rows: Sequence[int] | None = None,
    ) -> _Value:
        lists = {"stride": stride, "padding": padding, "dilation": dilation, "rows": rows}
        given = {name: [*numbers] for name, numbers in lists.items() if numbers}  # an empty list has no type
        tensors = (x, weight, weight_scale, bias, input_scale, input_zero_point)
        return ours.int8_layer(*tensors, kind=kind, groups=groups, **given)

    def dequantize_weight(  # noqa: PLR0917
        codes: _Value, scale: _Value, zero_point: _Value, dtype: str, granularity: str, shape: Sequence[int]
    ) -> _Value:
        return ours.dequantize_weight(codes, scale, zero_point, dtype=dtype, granularity=granularity, shape=[*shape])

    def dequantize_rows(  # noqa: PLR0917
        codes: _Value,
        scale: _Value,
        zero_point: _Value,
        indices: _Value,
        dtype: str,
        granularity: str,
        shape: Sequence[int],
    ) -> _Value:
        tensors = (codes, scale, zero_point, indices)
        return ours.dequantize_rows(*tensors, dtype=dtype, granularity=granularity, shape=[*shape])

    operators = torch.ops.mono_quant
    return {
        operators.quantize.default: quantize,
        operators.int8_layer.default: int8_layer,
        operators.dequantize_weight.default: dequantize_weight,
        operators.dequantize_rows.default: dequantize_rows,
        torch.ops.aten.scaled_dot_product_attention.default: attention,
    }


def _schemas() -> list[OpSchema]:
    """What the operators take and give; the types are those of the operators of torch."""
    kinds = OpSchema.AttrType
    return [
        _schema("quantize", ["x:float", "scale:float", "zero_point:int32"], "uint8"),
        _schema(
            "int8_layer",
            [
                "x:float,uint8", "weight:int8", "weight_scale:float",
                "bias:float?", "input_scale:float?", "input_zero_point:int32?",
            ],
            "float",
            kind=kinds.STRING, stride=kinds.INTS, padding=kinds.INTS, dilation=kinds.INTS, groups=kinds.INT,
            rows=kinds.INTS,
        ),
        _schema(
            "dequantize_weight",
            ["codes:int8,uint8,float8e4m3fn", "scale:float", "zero_point:int8?"],
            "float",
            dtype=kinds.STRING, granularity=kinds.STRING, shape=kinds.INTS,
        ),
        _schema(
            "dequantize_rows",
            ["codes:int8,uint8,float8e4m3fn", "scale:float", "zero_point:int8?", "indices:int32,int64"],
            "float",
            dtype=kinds.STRING, granularity=kinds.STRING, shape=kinds.INTS,
        ),
    ]  # fmt: skip


def _schema(name: str, inputs: list[str], output: str, **attributes: OpSchema.AttrType) -> OpSchema:
    """One operator.

    Args:
        name: of it.
        inputs: of each the name, its types, and a question mark where it may be missing.
        output: its type.
        attributes: name → type.
    """
    options = OpSchema.FormalParameterOption
    parameters, constraints = [], []
    for one in inputs:
        label, types = one.removesuffix("?").split(":")
        option = options.Optional if one.endswith("?") else options.Single
        parameters.append(OpSchema.FormalParameter(label, f"T_{label}", param_option=option))
        constraints.append((f"T_{label}", [f"tensor({kind})" for kind in types.split(",")], ""))
    return OpSchema(
        name,
        DOMAIN,
        1,
        inputs=parameters,
        outputs=[OpSchema.FormalParameter("y", f"tensor({output})")],
        type_constraints=constraints,
        attributes=[OpSchema.Attribute(label, kind, "", required=False) for label, kind in attributes.items()],
    )
