"""The choice of a kernel: by name, or the fastest of those that are right."""

import time

import attrs
import planted_kernels as planted
import pytest
import torch
from on_this_cpu import CPU, KERNELS
from planted_kernels import Planted, plant
from torch import Tensor

from mono_quant.errors import ConfigurationError
from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.kernels.select import choose, forget_measurements, size_class, supports
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
FULL_RANGE = attrs.evolve(OP, weight=torch.full((4, 8), 65, dtype=torch.int8))
REFERENCE = ("reference", ReferenceKernel())


def slow(op: QuantizedOp) -> planted.Run:
    """Right, and so slow that no measurement can take it for the faster one."""
    run = planted.right(op)

    def sleeping(x: Tensor) -> Tensor:
        time.sleep(0.02)
        return run(x)

    return sleeping


def test_the_fastest_is_chosen():
    kernels = (("slow", plant(slow)), ("quick", plant(planted.right)))
    assert choose(OP, X, kernels, "auto")[0] == "quick"
    forget_measurements()
    assert choose(OP, X, kernels[::-1], "auto")[0] == "quick"


def test_what_was_asked_for_is_chosen_even_if_slower():
    kernels = (("slow", plant(slow)), ("quick", plant(planted.right)))
    name, run = choose(OP, X, kernels, "slow")
    assert name == "slow"
    assert torch.equal(run(X), REFERENCE[1].pack(OP)(X))


def test_what_was_asked_for_is_not_measured():
    kernel = plant(planted.right)
    choose(OP, X, (("asked", kernel), ("other", plant(planted.right))), "asked")
    assert (
        kernel.ran == 4
    )  # by its verification, with weights of either sign and of both, and once to see that it runs here
    assert kernel.packed == 4


def test_the_only_one_is_tried_once_for_a_layer_and_size():
    kernel = plant(planted.right)
    choose(OP, X, (("only", kernel), REFERENCE), "auto")
    assert kernel.ran == 4
    choose(attrs.evolve(OP, weight=-OP.weight), X + 1, (("only", kernel), REFERENCE), "auto")
    assert kernel.ran == 4
    choose(OP, X.repeat(2, 1), (("only", kernel), REFERENCE), "auto")
    assert kernel.ran == 5


def test_what_is_packed_already_is_not_packed_again():
    kernel = plant(planted.right)
    name, run = choose(OP, X, (("mine", kernel),), "auto")
    packed = kernel.packed
    assert choose(OP, X.repeat(2, 1), (("mine", kernel),), "auto", {name: run}) == ("mine", run)
    assert kernel.packed == packed


def test_the_reference_is_chosen_when_asked_for():
    assert choose(OP, X, (REFERENCE, ("quick", plant(planted.right))), "reference")[0] == "reference"


def test_the_reference_does_not_compete():
    assert choose(OP, X, (REFERENCE, ("slow", plant(slow))), "auto")[0] == "slow"


@pytest.mark.parametrize(
    "unable",
    [plant(planted.right, refusal="no"), plant(planted.no_bias), plant(planted.failing_when_packed)],
    ids=["refusing", "wrong", "failing"],
)
@pytest.mark.parametrize("wanted", ["auto", "unable"])
def test_the_reference_runs_what_no_other_can(unable: Planted, wanted: str):
    assert choose(OP, X, (("unable", unable), REFERENCE), wanted)[0] == "reference"


def test_a_wrong_kernel_is_not_chosen_though_it_is_faster():
    kernels = (("wrong", plant(planted.no_bias)), ("slow", plant(slow)))
    assert choose(OP, X, kernels, "auto")[0] == "slow"


def test_a_pairing_kernel_is_given_pair_safe_weights_only():
    pairing = plant(planted.pairs_added_in_int16, pairs_int16=True)
    assert supports(pairing, OP, CPU)
    assert "the weights are full-range" in supports(pairing, FULL_RANGE, CPU).why_not
    assert choose(FULL_RANGE, X, (("pairing", pairing), REFERENCE), "pairing")[0] == "reference"


def test_when_no_kernel_can_the_error_says_why_of_each():
    kernels = (
        ("first", plant(planted.right, refusal="it is made for conv9d")),
        ("second", plant(planted.another_dtype)),
        ("third", plant(planted.right, pairs_int16=True)),
    )
    with pytest.raises(ConfigurationError) as caught:
        choose(FULL_RANGE, X, kernels, "auto")
    assert str(caught.value) == (
        "no kernel can run this linear on cpu: first: it is made for conv9d; second: it gave torch.float64[3, 4], "
        "not float32[3, 4]; third: this CPU adds products in int16 and the weights are full-range, so sums would be "
        "clipped"
    )


def test_when_there_is_no_kernel_the_error_says_so():
    with pytest.raises(ConfigurationError, match="none is registered"):
        choose(OP, X, (), "auto")


def test_a_choice_is_measured_once_for_a_layer_and_size():
    first, second = plant(planted.right), plant(slow)
    kernels = (("first", first), ("second", second))
    choose(OP, X, kernels, "auto")
    ran = first.ran, second.ran
    assert min(ran) > 2
    assert choose(attrs.evolve(OP, weight=-OP.weight), X + 1, kernels, "auto")[0] == "first"
    assert (first.ran, second.ran) == ran


@pytest.mark.parametrize(
    ("op", "x"),
    [
        (OP, X.repeat(2, 1)),
        (attrs.evolve(OP, input_scale=None, input_zero_point=None), X),
        (attrs.evolve(OP, weight=OP.weight[:3], weight_scale=OP.weight_scale[:3]), X),
    ],
    ids=["size", "dynamic", "shape"],
)
def test_another_layer_or_size_is_measured_anew(op: QuantizedOp, x: Tensor):
    second = plant(slow)
    kernels = (("first", plant(planted.right)), ("second", second))
    choose(OP, X, kernels, "auto")
    ran = second.ran
    choose(op, x, kernels, "auto")
    assert second.ran > ran


def test_a_kernel_that_comes_later_is_measured_too():
    kernels = (("first", plant(slow)), ("second", plant(slow)))
    choose(OP, X, kernels, "auto")
    assert choose(OP, X, (*kernels, ("third", plant(planted.right))), "auto")[0] == "third"


def test_a_kernel_that_is_gone_is_not_chosen_again():
    kernels = (("quick", plant(planted.right)), ("second", plant(slow)), ("third", plant(slow)))
    assert choose(OP, X, kernels, "auto")[0] == "quick"
    assert choose(OP, X, kernels[1:], "auto")[0] in {"second", "third"}


def test_a_kernel_is_verified_once_for_a_kind_of_layer():
    kernel = plant(planted.right)
    supports(kernel, OP, CPU)
    assert kernel.ran == 3
    supports(kernel, attrs.evolve(OP, weight=-OP.weight, weight_scale=2 * OP.weight_scale), CPU)
    assert kernel.ran == 3
    supports(kernel, attrs.evolve(OP, weight=OP.weight[:, :7]), CPU)
    assert kernel.ran == 6


def test_the_shipped_kernels_are_all_right_here():
    assert [supports(kernel, OP, CPU).why_not for kernel in KERNELS.values()] == ["", ""]


def test_sizes_of_one_class_differ_by_less_than_a_factor_of_two():
    classes = [size_class(torch.Size([n])) for n in range(1, 1025)]
    assert classes == sorted(classes)
    assert all(classes[2 * n - 1] == classes[n - 1] + 1 for n in range(1, 513))
