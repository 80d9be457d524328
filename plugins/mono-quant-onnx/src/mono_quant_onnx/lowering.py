"""From our operators to standard ONNX: QuantizeLinear, DequantizeLinear, and the float operator between them.

Readers know this form (QDQ) and put an integer kernel in place of ``DequantizeLinear → operator``. The codes, scales
and zero points are those that are stored, bit for bit; but the bias of a layer can become int32 codes in steps of
``input_scale · weight_scale``, the unit that its sums have, as readers want it.
"""

from collections.abc import Callable
from itertools import count

import ml_dtypes
import numpy as np
import onnx_ir as ir
from mono_quant.core.tensor_spec import WeightSpec
from onnx_ir.passes.common import RemoveUnusedNodesPass

from mono_quant_onnx.builder import Array, Builder, array_of
from mono_quant_onnx.placeholders import DOMAIN
from mono_quant_onnx.weights import StoredWeight, stored_weight

__all__ = ["lower"]

_WHOLE_UNITS = (np.float32(1), np.uint8(128))
"""Scale and zero point of codes that come without: rows in units of their own scales."""
_INT32 = np.iinfo(np.int32)
_SMALLEST_STEP = np.finfo(np.float32).tiny
_MATRIX = 2


def lower(model: ir.Model, *, sums_integers: bool) -> None:
    """Replace the nodes of `mono_quant_onnx.placeholders` in a graph.

    Args:
        model: changed.
        sums_integers: whether linear layers whose inputs have ranges of their own are ``MatMulInteger``, which ONNX
            Runtime is fast at, or dequantized too, which OpenVINO is.
    """
    names = (f"mono_quant_{number}" for number in count())
    for node in [node for node in model.graph if node.domain == DOMAIN]:
        builder = Builder(names, sums_integers=sums_integers)
        made = _LOWERED[node.op_type](node, builder)
        replaced = (_transpose_of(node) if node.op_type == "dequantize_weight" else None) or node
        (old,) = replaced.outputs
        made.shape, made.type = old.shape, old.type
        for value in builder.tape.initializers:
            model.graph.register_initializer(value)
        ir.convenience.replace_nodes_and_values(model.graph, replaced, [replaced], builder.tape.nodes, [old], [made])
    model.graph.opset_imports.pop(DOMAIN, None)
    RemoveUnusedNodesPass()(model)


def _quantize(node: ir.Node, builder: Builder) -> ir.Value:
    x, scale, zero_point = node.inputs
    return builder.op("QuantizeLinear", x, *builder.constants(array_of(scale), array_of(zero_point).astype(np.uint8)))


def _int8_layer(node: ir.Node, builder: Builder) -> ir.Value:
    x, weight, weight_scale, bias, *qparams = _inputs(node, 6)
    rows = slice(*_integers(node, "rows")) if _integers(node, "rows") else slice(None)
    codes, scale = array_of(weight)[rows], array_of(weight_scale)[rows]
    stored = StoredWeight(codes=codes, scale=scale, zero_point=np.zeros(len(scale), np.int8), axis=0)
    of_layer = None if bias is None else array_of(bias)[rows]
    is_linear = node.attributes["kind"].as_string() == "linear"
    if builder.sums_integers and is_linear and qparams[0] is None and x.dtype == ir.DataType.FLOAT:
        return _dynamic_linear(x, stored, of_layer, builder)
    x, input_scale = _dequantized_input(x, qparams, builder)
    if is_linear:
        return _linear(x, stored, of_layer, input_scale, builder)
    return _conv(x, stored, of_layer, input_scale, node, builder)


def _dynamic_linear(x: ir.Value, weight: StoredWeight, bias: Array | None, builder: Builder) -> ir.Value:
    """A linear layer whose input is quantized by its own range: the sums of codes, made float."""
    codes, scale, zero_point = builder.ops("DynamicQuantizeLinear", x, outputs=3)
    matrix, weight_scale, weight_zero_point = builder.constants(weight.codes.T.copy(), weight.scale, np.int8(0))
    sums = builder.op("MatMulInteger", codes, matrix, zero_point, weight_zero_point)
    sums.type = ir.TensorType(ir.DataType.INT32)
    y = builder.op("Mul", builder.op("Cast", sums, to=ir.DataType.FLOAT), builder.op("Mul", scale, weight_scale))
    return y if bias is None else builder.op("Add", y, *builder.constants(bias.astype(np.float32)))


def _dequantized_input(x: ir.Value, qparams: list[ir.Value | None], builder: Builder) -> tuple[ir.Value, Array | None]:
    """The input of a layer as float, and its scale, where it has one for all times."""
    if qparams[0] is not None:
        scale, zero_point = array_of(qparams[0]), array_of(qparams[1]).astype(np.uint8)
    elif x.dtype == ir.DataType.UINT8:
        scale, zero_point = _WHOLE_UNITS
    else:
        return builder.op("DequantizeLinear", *builder.ops("DynamicQuantizeLinear", x, outputs=3)), None
    dequantized = builder.op("DequantizeLinear", x, *builder.constants(scale, zero_point))
    dequantized.shape = x.shape
    return dequantized, scale


def _linear(
    x: ir.Value, weight: StoredWeight, bias: Array | None, input_scale: Array | None, builder: Builder
) -> ir.Value:
    matrix = _dequantized(weight.transposed(), builder)
    if bias is None:
        return builder.op("MatMul", x, matrix)
    is_matrix = x.shape is not None and len(x.shape) == _MATRIX
    in_steps = _bias_in_steps(bias, input_scale, weight.scale, builder) if is_matrix else None
    if in_steps is None:
        return builder.op("Add", builder.op("MatMul", x, matrix), *builder.constants(bias.astype(np.float32)))
    return builder.op("Gemm", x, matrix, in_steps)


def _conv(  # noqa: PLR0917 - a convolution
    x: ir.Value,
    weight: StoredWeight,
    bias: Array | None,
    input_scale: Array | None,
    node: ir.Node,
    builder: Builder,
) -> ir.Value:
    biases: list[ir.Value] = []
    if bias is not None:
        in_steps = _bias_in_steps(bias, input_scale, weight.scale, builder)
        biases = builder.constants(bias.astype(np.float32)) if in_steps is None else [in_steps]
    padding = _integers(node, "padding")
    return builder.op(
        "Conv",
        x,
        _dequantized(weight, builder),
        *biases,
        strides=_integers(node, "stride"),
        pads=[*padding, *padding],
        dilations=_integers(node, "dilation"),
        group=node.attributes["groups"].as_int(),
    )


def _bias_in_steps(bias: Array, input_scale: Array | None, weight_scale: Array, builder: Builder) -> ir.Value | None:
    """A bias as int32 codes; None where the input has no scale for all times, or the codes would not fit.

    So it is where a channel has no weights but zeros: its scale is the smallest that there is.
    """
    if input_scale is None:
        return None
    scale = (input_scale * weight_scale).astype(np.float32)
    if (scale < _SMALLEST_STEP).any():
        return None
    steps = np.rint(bias.astype(np.float64) / scale.astype(np.float64))
    if (np.abs(steps) > _INT32.max).any():
        return None
    constants = builder.constants(steps.astype(np.int32), scale, np.zeros(len(scale), np.int32))
    return builder.op("DequantizeLinear", *constants, axis=0)


def _dequantize_weight(node: ir.Node, builder: Builder) -> ir.Value:
    stored, spec = _stored(node)
    if _transpose_of(node) is not None:
        is_it_already = stored.block_size is not None and spec.axis % _MATRIX == 1
        return _dequantized(stored if is_it_already else stored.transposed(), builder)
    return _reshaped(_dequantized(stored, builder), stored, spec, builder)


def _dequantize_rows(node: ir.Node, builder: Builder) -> ir.Value:
    """Only the rows that are asked for are made float: their codes are gathered, their scales and zero points too."""
    stored, spec = _stored(node)
    indices = node.inputs[3]
    codes = stored.codes.astype(np.int8) if stored.codes.dtype == ml_dtypes.int4 else stored.codes
    rows = builder.op("Cast", _gathered(codes, indices, builder), to=ir.DataType.FLOAT)
    if stored.block_size is not None:
        rows = builder.op("Reshape", rows, *builder.constants(np.array([0, spec.groups, spec.group_size], np.int64)))
    if spec.symmetric is False:
        rows = builder.op("Sub", rows, _by_row(stored.zero_point, stored, indices, builder))
    rows = builder.op("Mul", rows, _by_row(stored.scale, stored, indices, builder))
    if stored.block_size is not None:
        rows = builder.op("Reshape", rows, *builder.constants(np.array([0, codes.shape[1]], np.int64)))
    return _without_padding(rows, stored, builder)


def _by_row(numbers: Array, stored: StoredWeight, indices: ir.Value, builder: Builder) -> ir.Value:
    """Scales or zero points of the rows that are asked for, to broadcast against their codes."""
    numbers = numbers.astype(np.float32)
    return _gathered(numbers[..., None], indices, builder) if stored.axis is not None else builder.constants(numbers)[0]


def _gathered(table: Array, indices: ir.Value, builder: Builder) -> ir.Value:
    (constant,) = builder.constants(table)
    rows = builder.op("Gather", constant, indices, axis=0)
    rows.type = constant.type
    return rows


def _stored(node: ir.Node) -> tuple[StoredWeight, WeightSpec]:
    codes, scale, zero_point = _inputs(node, 3)[:3]
    spec = WeightSpec(
        dtype=node.attributes["dtype"].as_string(),
        granularity=node.attributes["granularity"].as_string(),
        symmetric=zero_point is None,
        shape=tuple(_integers(node, "shape")),
    )
    zero_points = None if zero_point is None else array_of(zero_point)
    return stored_weight(array_of(codes), array_of(scale), zero_points, spec), spec


def _dequantized(stored: StoredWeight, builder: Builder) -> ir.Value:
    constants = builder.constants(stored.codes, stored.scale, stored.zero_point)
    weight = builder.op("DequantizeLinear", *constants, axis=stored.axis, block_size=stored.block_size)
    return _without_padding(weight, stored, builder)


def _without_padding(weight: ir.Value, stored: StoredWeight, builder: Builder) -> ir.Value:
    if not stored.padding:
        return weight
    axis = stored.axis or 0
    bounds = np.array([[0], [stored.codes.shape[axis] - stored.padding], [axis]], np.int64)
    return builder.op("Slice", weight, *builder.constants(*bounds))


def _reshaped(weight: ir.Value, stored: StoredWeight, spec: WeightSpec, builder: Builder) -> ir.Value:
    """Channels one after another in the shape of the weight."""
    axis = spec.axis % len(spec.shape)
    if stored.block_size is None or (stored.codes.shape == spec.shape and axis == 0):
        return weight
    others = [size for number, size in enumerate(spec.shape) if number != axis]
    weight = builder.op("Reshape", weight, *builder.constants(np.array([spec.channels, *others], np.int64)))
    return builder.op("Transpose", weight, perm=[*range(1, axis + 1), 0, *range(axis + 1, len(spec.shape))])


def _transpose_of(node: ir.Node) -> ir.Node | None:
    """The only node that uses a weight, where that transposes a matrix whose channels are its rows."""
    (weight,) = node.outputs
    uses = [*weight.uses()]
    if len(uses) != 1 or weight.is_graph_output() or len(_integers(node, "shape")) != _MATRIX:
        return None
    user = uses[0].node
    return user if user.op_type == "Transpose" and [*user.attributes["perm"].as_ints()] == [1, 0] else None


def _inputs(node: ir.Node, count: int) -> list[ir.Value | None]:
    """All inputs of a node, None for those that are missing at the end as well."""
    return [*node.inputs, *[None] * (count - len(node.inputs))]


def _integers(node: ir.Node, name: str) -> list[int]:
    return [*node.attributes[name].as_ints()] if name in node.attributes else []


_LOWERED: dict[str, Callable[[ir.Node, Builder], ir.Value]] = {
    "quantize": _quantize,
    "int8_layer": _int8_layer,
    "dequantize_weight": _dequantize_weight,
    "dequantize_rows": _dequantize_rows,
}
