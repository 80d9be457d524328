"""Attention and the transformers of torch through the whole pipeline, with quantized inputs."""

import copy
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import quantize, quantized_names, run, sqnr
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformer_models import (
    LENGTH,
    SIZE,
    Attentive,
    Decoder,
    awake,
    encoder,
    padded,
    padded_pairs,
    padding,
    pairs,
    sequences,
)

from mono_quant import Quantizer
from mono_quant.modules import to_float
from mono_quant.plugin_api import Batch

ENOUGH_DB = 25

DYNAMIC, PER_TOKEN, STATIC = "int8-dynamic", {"name": "int8-dynamic", "activations": "per-token"}, "int8-static"
Scheme = str | dict[str, str]
SCHEMES = pytest.mark.parametrize("scheme", [DYNAMIC, PER_TOKEN, STATIC], ids=["dynamic", "per-token", "static"])
BOTH = pytest.mark.parametrize("scheme", [DYNAMIC, STATIC])

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")

MODELS: dict[str, Callable[[], tuple[nn.Module, list[Any]]]] = {
    "attention": lambda: (Attentive(), sequences()),
    "attention, sequence first": lambda: (Attentive(batch_first=False, bias=False), sequences()),
    "encoder layer": lambda: (encoder().layers[0], sequences()),
    "encoder": lambda: (encoder(), sequences()),
    "encoder, norm first, gelu": lambda: (encoder(norm_first=True, activation="gelu"), sequences()),
    "encoder, sequence first": lambda: (
        awake(nn.TransformerEncoder(nn.TransformerEncoderLayer(SIZE, 4, 64), 2, enable_nested_tensor=False)),
        sequences(),
    ),
    "padded encoder": lambda: (encoder(), padded()),
    "padded encoder with a norm": lambda: (encoder(nn.LayerNorm(SIZE)), padded()),
    "decoder": lambda: (Decoder(), sequences()),
    "decoder, norm first": lambda: (Decoder(norm_first=True, bias=False), sequences()),
    "transformer": lambda: (awake(nn.Transformer(SIZE, 4, 2, 2, 64, batch_first=True)), pairs()),
    "padded transformer": lambda: (awake(nn.Transformer(SIZE, 4, 2, 2, 64, batch_first=True)), padded_pairs()),
}
EVERY_MODEL = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def outputs(model: nn.Module, data: Iterable[Any]) -> Tensor:
    batches = [x if isinstance(x, Batch) else Batch((x,)) for x in data]
    return torch.stack([run(model, *batch.args, **batch.kwargs) for batch in batches])


def attentions(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, nn.MultiheadAttention)]


@SCHEMES
@EVERY_MODEL
def test_every_linear_map_of_a_transformer_is_quantized_and_the_output_is_near(
    make: Callable[[], tuple[nn.Module, list[Any]]], scheme: Scheme
):
    model, data = make()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = outputs(model, data)
    result = quantize(model, data, scheme=scheme)
    linear = [n for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.MultiheadAttention)]
    assert sorted(quantized_names(result.model)) == sorted(linear)
    assert sqnr(expected, outputs(result.model, data)) > ENOUGH_DB
    assert result.info.sqnr_db > ENOUGH_DB
    assert torch.equal(outputs(model, data), expected)  # the float model still takes its fast path
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


@SCHEMES
@EVERY_MODEL
def test_saved_and_loaded_it_gives_the_same_bits(
    make: Callable[[], tuple[nn.Module, list[Any]]], scheme: Scheme, tmp_path: Path
):
    model, data = make()
    quantizer = Quantizer(scheme, kernel="reference", validators=(), show_progress=False)
    result = quantizer.quantize(model, data)
    expected = outputs(result.model, data)
    for again in (copy.deepcopy(result.model), pickle.loads(pickle.dumps(result.model))):  # noqa: S301 - our own
        assert torch.equal(outputs(again, data), expected)
    result.save(tmp_path / "model.safetensors")
    loaded = quantizer.load(tmp_path / "model.safetensors", model=copy.deepcopy(model).to("meta"))
    assert list(loaded.state_dict()) == list(result.model.state_dict())
    assert torch.equal(outputs(loaded, data), expected)
    assert set(model.state_dict()) <= set(loaded.state_dict())


@SCHEMES
@EVERY_MODEL
def test_back_in_float_it_takes_the_fast_paths_of_the_float_model(
    make: Callable[[], tuple[nn.Module, list[Any]]], scheme: Scheme
):
    model, data = make()
    result = quantize(model, data, scheme=scheme, validators=())
    floats = to_float(result.model)
    plain = copy.deepcopy(model)
    plain.load_state_dict(floats.state_dict())
    assert torch.equal(outputs(floats, data), outputs(plain, data))
    assert [vars(m).keys() - {"mono_quant_manifest"} for m in floats.modules()] == [
        vars(m).keys() for m in model.modules()
    ]
    for one, other in zip(floats.modules(), model.modules(), strict=True):
        assert type(one) is type(other)
        for switch in ("activation_relu_or_gelu", "use_nested_tensor"):
            assert getattr(one, switch, None) == getattr(other, switch, None)


@BOTH
def test_the_ledger_says_that_inputs_inside_attention_are_dynamic(scheme: str):
    plan = Quantizer(scheme).plan(encoder())
    text = str(plan)
    for name in ("layers.0.self_attn", "layers.0.self_attn.out_proj"):
        assert plan.layers[name].input.is_dynamic
        line = next(line for line in text.splitlines() if line.startswith(f"{name} "))
        assert line.endswith("input uint8 asymmetric per-tensor dynamic")
    assert plan.layers["layers.0.linear1"].input.is_dynamic == (scheme == DYNAMIC)
    assert plan.parameter_bytes == sum(p.numel() * 4 for p in encoder().parameters())


@SCHEMES
def test_the_bytes_of_the_ledger_are_those_of_the_model(scheme: Scheme):
    result = quantize(encoder(), sequences(), scheme=scheme)
    stored = {id(t): t for t in (*result.model.parameters(), *result.model.buffers())}
    assert sum(entry.bytes_after for entry in result.plan.entries) == sum(t.nbytes for t in stored.values())


@SCHEMES
def test_an_encoder_layer_calls_its_layers_one_after_the_other(scheme: Scheme):
    layer = quantize(encoder().layers[0], sequences(), scheme=scheme, kernel="reference").model
    (x,) = sequences(1)
    with torch.no_grad():
        attended = layer.self_attn(x, x, x, need_weights=False)[0]
        middle = layer.norm1(x + attended)
        right = layer.norm2(middle + layer.linear2(layer.linear1(middle).relu()))
    assert torch.equal(run(layer, x), right)


def test_static_ranges_are_those_of_what_the_layers_inside_an_encoder_are_given():
    model, data = encoder(), padded()
    seen: dict[str, list[Tensor]] = {"layers.0.linear1": [], "layers.1.linear2": []}
    result = quantize(model, data, scheme=STATIC)
    slow = copy.deepcopy(model)
    slow.use_nested_tensor = False
    for name, values in seen.items():
        slow.get_submodule(name).register_forward_pre_hook(lambda _, args, values=values: values.append(args[0]))
    outputs(slow, data)
    for name, values in seen.items():
        low, high = (min(0.0, *(float(v.min()) for v in values)), max(0.0, *(float(v.max()) for v in values)))
        scale = float(result.model.get_submodule(name).input_scale)
        assert scale == pytest.approx((high - low) / 255, rel=1e-5)


def test_attention_alone_needs_no_calibration_data():
    attention = nn.Sequential(nn.MultiheadAttention(SIZE, 4))
    assert quantize(attention, None, scheme=STATIC, validators=()).info.selected_layers == ("0", "0.out_proj")


def short() -> Tensor:
    """Padding after the fourth position of one sequence."""
    hidden = torch.zeros(3, LENGTH, dtype=torch.bool)
    hidden[1, 4:] = True
    return hidden


def on_device(model: nn.Module, x: Tensor) -> Tensor:
    with torch.device("cpu"):
        return run(model, x, src_key_padding_mask=short())


def without_fast_path(model: nn.Module, x: Tensor) -> Tensor:
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        return run(model, x, src_key_padding_mask=short())
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


class TestPadding:
    """A float encoder in eval mode works on nested tensors: zeros come out where there is padding, then its norm."""

    @staticmethod
    def both(model: nn.Module, call: Callable[[nn.Module], Tensor]) -> tuple[Tensor, Tensor]:
        quantized = quantize(model, sequences(), scheme=DYNAMIC).model
        return call(model.eval()), call(quantized.eval())

    @pytest.mark.parametrize("kind", ["bool", "float", "any number"])
    def test_padding_comes_out_as_zeros_and_unpadded_positions_are_near(self, kind: str):
        hidden = padding()
        mask = {"bool": hidden, "float": torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf)}.get(
            kind, hidden * -0.5
        )
        x = sequences(1)[0]
        expected, actual = self.both(encoder(), lambda m: run(m, x, src_key_padding_mask=mask))
        assert torch.equal(expected[hidden], torch.zeros(8, SIZE))
        assert torch.equal(actual[hidden], torch.zeros(8, SIZE))
        if kind != "any number":  # there torch's fast path takes away keys that its slow path only weakens
            assert sqnr(expected[~hidden], actual[~hidden]) > ENOUGH_DB

    def test_a_norm_comes_after_that(self):
        x, norm = sequences(1)[0], nn.LayerNorm(SIZE)
        expected, actual = self.both(encoder(norm), lambda m: run(m, x, src_key_padding_mask=padding()))
        assert torch.equal(actual[padding()], norm.bias.expand(8, -1))
        assert torch.equal(expected[padding()], norm.bias.expand(8, -1))

    @pytest.mark.parametrize(
        "call",
        {
            "no padding": run,
            "padding first": lambda m, x: run(m, x, src_key_padding_mask=padding().flip(1)[:2].repeat(2, 1)[:3]),
            "a mask too": lambda m, x: run(
                m, x, mask=torch.zeros(LENGTH, LENGTH, dtype=torch.bool), src_key_padding_mask=short()
            ),
            "no batch": lambda m, x: run(m, x[1], src_key_padding_mask=short()[1]),
            "with gradients": lambda m, x: m(x, src_key_padding_mask=short()).detach(),
            "under a device": on_device,
            "fast paths off": without_fast_path,
            "positional arguments": lambda m, x: run(m, x, None, short()),
        }.items(),
        ids=lambda item: item[0],
    )
    def test_positions_are_zero_just_where_they_are_in_float(self, call: tuple[str, Callable[..., Tensor]]):
        x = sequences(1)[0]
        expected, actual = self.both(encoder(), lambda m: call[1](m, x))
        assert torch.equal(expected == 0, actual == 0)
        assert bool((expected == 0).any()) == (call[0] == "positional arguments")
        assert sqnr(expected, actual) > ENOUGH_DB

    def test_so_they_are_without_the_check_of_the_mask(self):
        model = encoder()
        model.mask_check = False
        expected, actual = self.both(model, lambda m: run(m, sequences(1)[0], src_key_padding_mask=short()))
        assert torch.equal(expected == 0, actual == 0)

    def test_in_training_mode_they_are_not(self):
        for model in (encoder().train(), quantize(encoder(), sequences(), scheme=DYNAMIC).model.train()):
            with torch.no_grad():
                assert bool((model(sequences(1)[0], src_key_padding_mask=short())[1, 4:] != 0).all())

    def test_an_encoder_with_a_forward_of_its_own_is_left_to_it(self):
        class Own(nn.TransformerEncoder):
            def forward(self, src: Tensor, **masks: Tensor) -> Tensor:
                return super().forward(src, **masks) + 1

        model = awake(Own(nn.TransformerEncoderLayer(SIZE, 4, 64, batch_first=True), 1))
        x = sequences(1)[0]
        _, actual = self.both(model, lambda m: run(m, x, src_key_padding_mask=short()))
        assert bool((actual[1, 4:] != 1).all())

    def test_an_encoder_that_never_nests_has_no_hook(self):
        layer = nn.TransformerEncoderLayer(SIZE, 4, 64, batch_first=True)
        model = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).eval()
        assert not quantize(model, sequences(), scheme=DYNAMIC).model._forward_hooks

    def test_hooks_registered_after_unpickling_do_not_take_its_place(self, monkeypatch: pytest.MonkeyPatch):
        before = RemovableHandle.next_id
        stored = pickle.dumps(quantize(encoder(), sequences(), scheme=DYNAMIC).model)
        numbers = RemovableHandle.next_id - before
        monkeypatch.setattr(RemovableHandle, "next_id", before)  # another process gives out the same numbers again
        model, ran = pickle.loads(stored), []  # noqa: S301 - our own bytes
        for _ in range(numbers):
            model.register_forward_hook(lambda *_: ran.append(True))
        assert torch.equal(run(model, sequences(1)[0], src_key_padding_mask=short())[1, 4:], torch.zeros(2, SIZE))
        assert len(ran) == numbers
