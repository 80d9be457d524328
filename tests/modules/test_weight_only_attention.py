"""Attention and torch's encoders with weights stored as codes: the same calls, torch's fast paths among them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from weight_only_cases import EVERY_SCHEME, SCHEMES, Holder, assert_same, quantized, twin

from mono_quant import Quantizer
from mono_quant.modules import QuantizedModule, to_float

WIDTH, HEADS = 8, 2
Call = tuple[tuple[Any, ...], dict[str, Any]]


class OpNames(TorchDispatchMode):
    """Notes which operators of torch run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        del types
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def ops_of(function: Callable[[], Any]) -> set[str]:
    with OpNames() as mode:
        function()
    return mode.names


def same(*shape: int, **kwargs: object) -> Call:
    """Attention of a sequence to itself."""
    x = torch.randn(shape)
    return (x, x, x), kwargs


def cross(kdim: int = WIDTH, vdim: int = WIDTH, **kwargs: object) -> Call:
    """Attention of 4 to 6 others, in batches of 3."""
    return (torch.randn(4, 3, WIDTH), torch.randn(6, 3, kdim), torch.randn(6, 3, vdim)), kwargs


def padded(batch: int, length: int) -> Tensor:
    """Which positions are padding: more and more at the end."""
    return torch.arange(length) >= length - torch.arange(batch)[:, None]


CAUSAL = torch.full((4, 4), float("-inf")).triu(1)
ATTENTIONS: dict[str, tuple[Callable[[], nn.Module], Callable[[], list[Call]]]] = {
    "itself": (
        lambda: nn.MultiheadAttention(WIDTH, HEADS),
        lambda: [
            same(4, 3, WIDTH),
            same(4, WIDTH),
            same(4, 3, WIDTH, need_weights=False),
            same(4, 3, WIDTH, average_attn_weights=False),
            same(4, 3, WIDTH, attn_mask=CAUSAL, is_causal=True, need_weights=False),
            same(4, 3, WIDTH, key_padding_mask=padded(3, 4)),
            same(4, 3, WIDTH, key_padding_mask=padded(3, 4), attn_mask=CAUSAL.isinf(), need_weights=False),
        ],
    ),
    "batch-first": (
        lambda: nn.MultiheadAttention(WIDTH, HEADS, batch_first=True),
        lambda: [
            same(3, 4, WIDTH),
            same(3, 4, WIDTH, need_weights=False),
            same(3, 4, WIDTH, key_padding_mask=padded(3, 4), need_weights=False),
            same(3, 4, WIDTH, attn_mask=CAUSAL),
        ],
    ),
    "others": (
        lambda: nn.MultiheadAttention(WIDTH, HEADS),
        lambda: [cross(), cross(need_weights=False), cross(key_padding_mask=padded(3, 6), need_weights=False)],
    ),
    "separate": (
        lambda: nn.MultiheadAttention(WIDTH, HEADS, kdim=5, vdim=3),
        lambda: [cross(5, 3), cross(5, 3, need_weights=False), cross(5, 3, average_attn_weights=False)],
    ),
    "bias-kv": (
        lambda: nn.MultiheadAttention(WIDTH, HEADS, add_bias_kv=True, add_zero_attn=True),
        lambda: [same(4, 3, WIDTH), cross(), same(4, 3, WIDTH, key_padding_mask=padded(3, 4))],
    ),
    "no-bias": (lambda: nn.MultiheadAttention(WIDTH, HEADS, bias=False, dropout=0.5), lambda: [same(4, 3, WIDTH)]),
}
EVERY_ATTENTION = pytest.mark.parametrize("attention", ATTENTIONS)


def attention_pair(name: str, scheme: str) -> tuple[nn.Module, nn.Module, list[Call]]:
    """Quantized attention, the float one with its weights, and calls."""
    make, calls = ATTENTIONS[name]
    model = Holder(make()).eval()
    module = quantized(model, scheme)
    assert isinstance(module.layer, nn.MultiheadAttention)
    assert all(isinstance(one, QuantizedModule) for one in (module.layer, module.layer.out_proj))
    return module, twin(model, module), calls()


@EVERY_SCHEME
@EVERY_ATTENTION
def test_attention_gives_what_the_float_layer_gives_with_those_weights(attention: str, scheme: str):
    module, expected, calls = attention_pair(attention, scheme)
    for args, kwargs in calls:
        with torch.no_grad():
            assert_same(module(*args, **kwargs), expected(*args, **kwargs))
        assert_same(module(*args, **kwargs), expected(*args, **kwargs))


@EVERY_ATTENTION
def test_attention_runs_the_operators_that_the_float_layer_runs(attention: str):
    module, expected, calls = attention_pair(attention, "int8")
    for args, kwargs in calls:
        with torch.no_grad():
            module(*args, **kwargs)  # so that the float weights are there
            ours = ops_of(lambda args=args, kwargs=kwargs: module(*args, **kwargs))
            assert ours == ops_of(lambda args=args, kwargs=kwargs: expected(*args, **kwargs))


@EVERY_ATTENTION
def test_attention_in_training_drops_what_the_float_layer_drops(attention: str):
    module, expected, calls = attention_pair(attention, "int4")
    outputs = []
    for one in (module.train(), expected.train()):
        torch.manual_seed(3)
        outputs.append([one(*args, **kwargs) for args, kwargs in calls])
    assert_same(*outputs)


@EVERY_SCHEME
@EVERY_ATTENTION
def test_attention_goes_back_to_the_float_layer(attention: str, scheme: str):
    module, expected, calls = attention_pair(attention, scheme)
    floated = to_float(module)
    assert type(floated.layer) is nn.MultiheadAttention
    assert type(floated.layer.out_proj) is type(expected.layer.out_proj)
    assert list(floated.state_dict()) == list(expected.state_dict())
    assert_same(list(floated.state_dict().values()), list(expected.state_dict().values()))
    args, kwargs = calls[0]
    with torch.no_grad():
        assert_same(floated(*args, **kwargs), expected(*args, **kwargs))


ENCODERS: dict[str, Callable[[], nn.Module]] = {
    "layer": lambda: nn.TransformerEncoderLayer(WIDTH, HEADS, 12, batch_first=True),
    "norm-first": lambda: nn.TransformerEncoderLayer(WIDTH, HEADS, 12, batch_first=True, norm_first=True),
    "gelu": lambda: nn.TransformerEncoderLayer(WIDTH, HEADS, 12, batch_first=True, activation="gelu"),
    "encoder": lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(WIDTH, HEADS, 12, batch_first=True), 2, norm=nn.LayerNorm(WIDTH)
    ),
}
EVERY_ENCODER = pytest.mark.parametrize("encoder", ENCODERS)
# what torch says of a prototype that its own encoder uses
QUIET = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage:UserWarning")
FAST = "_transformer_encoder_layer_fwd"


def encoder_pair(name: str, scheme: str) -> tuple[nn.Module, nn.Module]:
    model = Holder(ENCODERS[name]()).eval()
    module = quantized(model, scheme)
    count = sum(isinstance(one, QuantizedModule) for one in module.modules())
    assert count == 4 * sum(isinstance(one, nn.MultiheadAttention) for one in module.modules())
    return module, twin(model, module)


@QUIET
@EVERY_SCHEME
@EVERY_ENCODER
@pytest.mark.parametrize("mask", [None, padded(3, 5), padded(3, 5).float() * -1e9], ids=["none", "bool", "float"])
def test_an_encoder_still_takes_its_fast_path_and_is_right(encoder: str, scheme: str, mask: Tensor | None):
    module, expected = encoder_pair(encoder, scheme)
    x = torch.randn(3, 5, WIDTH)
    with torch.no_grad():
        actual = module(x, src_key_padding_mask=mask)
        assert FAST in ops_of(lambda: module(x, src_key_padding_mask=mask))
        assert_same(actual, expected(x, src_key_padding_mask=mask))


@QUIET
@EVERY_ENCODER
def test_an_encoder_is_right_off_its_fast_path(encoder: str):
    module, expected = encoder_pair(encoder, "int4")
    x = torch.randn(3, 5, WIDTH, requires_grad=True)
    assert FAST not in ops_of(lambda: module(x))
    assert_same(module(x), expected(x))
    assert_same(module(x, src_key_padding_mask=padded(3, 5)), expected(x, src_key_padding_mask=padded(3, 5)))


@QUIET
def test_an_encoder_some_of_whose_layers_are_float_still_takes_its_fast_path():
    model = Holder(ENCODERS["encoder"]()).eval()
    partly = Quantizer(SCHEMES["int8"], kernel="dequantize", validators=(), exclude=["*.linear1"])
    module = partly.quantize(model).model
    x = torch.randn(3, 5, WIDTH)
    with torch.no_grad():
        assert FAST in ops_of(lambda: module(x, src_key_padding_mask=padded(3, 5)))
        expected = twin(model, module)
        assert_same(module(x, src_key_padding_mask=padded(3, 5)), expected(x, src_key_padding_mask=padded(3, 5)))


@QUIET
@EVERY_SCHEME
def test_a_whole_transformer_is_right(scheme: str):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        transformer = nn.Transformer(WIDTH, HEADS, 1, 2, 12, batch_first=True)
    model = Holder(transformer).eval()
    module = quantized(model, scheme)
    expected = twin(model, module)
    source, target = torch.randn(3, 5, WIDTH), torch.randn(3, 4, WIDTH)
    masks = {"tgt_mask": CAUSAL, "tgt_is_causal": True, "src_key_padding_mask": padded(3, 5)}
    with torch.no_grad():
        assert_same(module(source, target, **masks), expected(source, target, **masks))
