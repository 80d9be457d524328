"""A kernel that fails on a real layer, after it passed its verification: the others go on, unless it was asked for."""

import sys

import attrs
import planted_kernels as planted
import pytest
import torch
from planted_kernels import Planted, plant
from torch import nn

from mono_quant import Quantizer, hookimpl
from mono_quant.errors import ConfigurationError, PluginError, QuantizationWarning
from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.kernels.select import NamedKernel, choose, forget_measurements
from mono_quant.plugin_api import KernelSpec
from mono_quant.plugin_api.kernel import QuantizedOp

X = torch.linspace(-3, 3, 48).reshape(6, 8)
OP = QuantizedOp(
    kind="linear",
    weight=torch.full((4, 8), 64, dtype=torch.int8),
    weight_scale=torch.ones(4),
    bias=None,
    input_scale=0.1,
    input_zero_point=7,
)
REFERENCE = ("reference", ReferenceKernel())
WHYS = {
    planted.failing_on_real_layers_when_packed: "RuntimeError: no room to pack it",
    planted.failing_on_real_layers_when_run: "ValueError: no workspace for 6 rows",
    planted.failing_on_real_layers_when_codes_are_asked_for: "RuntimeError: no room for codes",
}
FAILING = pytest.mark.parametrize("failing", WHYS, ids=lambda failing: failing.__name__)


def chosen(*kernels: NamedKernel, op: QuantizedOp = OP, x: torch.Tensor = X, wanted: str = "auto") -> str:
    """The name of the kernel, after it has given what the reference gives."""
    name, run = choose(op, x, kernels, wanted)
    assert torch.equal(run(x), REFERENCE[1].pack(op)(x))
    return name


@FAILING
def test_it_is_left_out_with_a_warning_and_the_others_go_on(failing: planted.Run):
    mine = ("mine", plant(failing))
    right = ("right", plant(planted.right))
    with pytest.warns(QuantizationWarning) as caught:
        assert chosen(mine, right) == "right"
    assert [str(warning.message) for warning in caught] == [
        f"kernel 'mine' is not used for this linear and others like it: it failed with {WHYS[failing]}"
    ]
    forget_measurements()
    with pytest.warns(QuantizationWarning, match="kernel 'mine' is not used"):
        assert chosen(right, mine, ("also right", plant(planted.right))) in {"right", "also right"}


@FAILING
def test_where_it_was_the_only_one_the_reference_runs(failing: planted.Run):
    with pytest.warns(QuantizationWarning, match="kernel 'mine' is not used for this linear"):
        assert chosen(("mine", plant(failing)), REFERENCE) == "reference"


def test_where_several_fail_each_is_warned_of():
    kernels = [(failing.__name__, plant(failing)) for failing in WHYS]
    with pytest.warns(QuantizationWarning) as caught:
        assert chosen(*kernels, REFERENCE) == "reference"
    assert {str(warning.message).split("'")[1] for warning in caught} == {name for name, _ in kernels}
    assert len(caught) == len(WHYS)


@FAILING
def test_where_nothing_is_left_the_error_says_why(failing: planted.Run):
    kernels = (("mine", plant(failing)), ("other", plant(planted.right, refusal="it is made for conv9d")))
    with (
        pytest.warns(QuantizationWarning),
        pytest.raises(ConfigurationError, match="no kernel can run this linear on cpu") as caught,
    ):
        choose(OP, X, kernels, "auto")
    assert str(caught.value).endswith(f"mine: it failed with {WHYS[failing]}; other: it is made for conv9d")


@FAILING
def test_it_is_not_tried_again_for_layers_and_inputs_like_these(failing: planted.Run):
    mine = plant(failing)
    with pytest.warns(QuantizationWarning):
        chosen(("mine", mine), REFERENCE)
    packed = mine.packed
    assert (
        chosen(("mine", mine), ("right", plant(planted.right)), op=attrs.evolve(OP, weight=OP.weight // 2)) == "right"
    )
    assert mine.packed == packed


@FAILING
def test_it_is_warned_of_once_whatever_fails_after_that(failing: planted.Run):
    mine = plant(failing)
    with pytest.warns(QuantizationWarning):
        chosen(("mine", mine), REFERENCE)
    wider = attrs.evolve(OP, weight=torch.full((4, 16), 64, dtype=torch.int8))
    packed = mine.packed
    assert chosen(("mine", mine), REFERENCE, op=wider, x=torch.ones(6, 16)) == "reference"
    assert mine.packed > packed


def test_it_is_used_where_it_does_not_fail():
    mine = plant(planted.failing_on_real_layers_when_packed)
    with pytest.warns(QuantizationWarning):
        chosen(("mine", mine), REFERENCE)
    narrow = attrs.evolve(OP, weight=OP.weight[:, :5])
    assert chosen(("mine", mine), REFERENCE, op=narrow, x=X[:, :5]) == "mine"


def test_one_that_was_the_fastest_and_fails_on_the_next_layer_is_left_out_there():
    mine = plant(planted.failing_on_negative_weights)
    kernels = (("mine", mine), REFERENCE)
    assert chosen(*kernels) == "mine"
    with pytest.warns(QuantizationWarning, match="no room to pack it"):
        assert chosen(*kernels, op=attrs.evolve(OP, weight=-OP.weight)) == "reference"


@FAILING
def test_when_it_was_asked_for_it_is_an_error_that_names_it_and_the_kind_of_layer(failing: planted.Run):
    kernels = (("mine", plant(failing)), ("right", plant(planted.right)), REFERENCE)
    with pytest.raises(PluginError) as caught:
        choose(OP, X, kernels, "mine")
    assert str(caught.value) == (
        f"kernel 'mine', which was asked for, cannot run this linear: it failed with {WHYS[failing]}"
    )
    assert isinstance(caught.value.__cause__, RuntimeError | ValueError)


@pytest.mark.parametrize("wanted", ["auto", "one"])
def test_an_input_that_the_layer_cannot_take_is_blamed_on_no_kernel(wanted: str):
    kernels = (("one", plant(planted.right)), ("two", plant(planted.right)), REFERENCE)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        choose(OP, X.reshape(8, 6), kernels, wanted)
    assert chosen(*kernels, x=X, wanted=wanted) in {"one", "two"}


class Plugin:
    """Provides a kernel ``mine``."""

    def __init__(self, kernel: Planted) -> None:
        self.kernel = kernel

    @hookimpl
    def mono_quant_kernels(self) -> list[KernelSpec]:
        return [KernelSpec(name="mine", summary="", factory=lambda: self.kernel)]


def two_layers() -> tuple[nn.Module, list[torch.Tensor]]:
    return nn.Sequential(nn.Linear(8, 9), nn.ReLU(), nn.Linear(9, 8)), [torch.randn(6, 8) for _ in range(2)]


@FAILING
def test_a_run_goes_on_without_it_with_one_warning_at_the_line_of_the_user(failing: planted.Run):
    model, data = two_layers()
    quantizer = Quantizer(plugins=[Plugin(plant(failing))], show_progress=False)
    with pytest.warns(QuantizationWarning, match="kernel 'mine' is not used for this linear") as caught:
        kernels = quantizer.quantize(model, data).info.kernels
    line = sys._getframe().f_lineno - 1
    assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, line)]
    assert set(kernels) == {"0", "2"}
    assert not {"mine", "reference"} & {name for names in kernels.values() for name in names}


@FAILING
def test_a_model_that_is_run_by_itself_warns_at_the_line_that_runs_it(failing: planted.Run):
    model, data = two_layers()
    quantizer = Quantizer(plugins=[Plugin(plant(failing))], validators=(), fuse=False, show_progress=False)
    quantized = quantizer.quantize(model, data)
    with pytest.warns(QuantizationWarning) as caught:
        quantized.model(data[0])
    line = sys._getframe().f_lineno - 1
    assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, line)]


@FAILING
def test_a_run_that_asks_for_it_stops_with_its_name(failing: planted.Run):
    model, data = two_layers()
    quantizer = Quantizer(plugins=[Plugin(plant(failing))], kernel="mine", show_progress=False)
    with pytest.raises(PluginError, match="kernel 'mine', which was asked for, cannot run this linear"):
        quantizer.quantize(model, data)
