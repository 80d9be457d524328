"""Files of either format whose tensors are not those of the model, or hold numbers that mean nothing."""

import math
from collections.abc import Callable

import torch
from hostile_case import Case, Scene, with_tensors
from torch import Tensor


def number(name: str, value: float) -> Callable[[Scene], None]:
    """One element of a tensor changed, or all of a single number."""
    return with_tensors(lambda tensors: tensors[name].view(-1)[-1:].fill_(value))


def changed(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Scene], None]:
    return with_tensors(lambda tensors: tensors.update({name: change(tensors[name])}))


def bad(name: str, make: Callable[[Scene], None], words: str) -> Case:
    return Case(name, (".safetensors", ".pt"), make, words, tensors_are_fine=True)


SCALE = "up.weight_scale is not finite and positive"
INPUT = "up.input_scale is not finite and positive"
CASES = [
    bad("a tensor that is missing", with_tensors(lambda t: t.pop("halves")), r"missing \['halves'\]"),
    bad(
        "a scale that is missing",
        with_tensors(lambda t: t.pop("conv.weight_scale")),
        r"missing \['conv.weight_scale'\]",
    ),
    bad("a tensor too many", with_tensors(lambda t: t.update(more=torch.ones(1))), r"unexpected \['more'\]"),
    bad(
        "a tensor whose name acts on terminals",
        with_tensors(lambda t: t.update({"\x1b[2J": torch.ones(1)})),
        "unexpected",
    ),
    bad(
        "a thousand tensors too many",
        with_tensors(lambda t: t.update({f"x{i}": torch.ones(1) for i in range(1000)})),
        "unexpected .* more characters",
    ),
    bad("codes of another dtype", changed("up.weight", lambda t: t.to(torch.uint8)), "up.weight is torch.uint8"),
    bad("codes that are float", changed("up.weight", lambda t: t.float()), "up.weight is torch.float32"),
    bad("codes of another shape", changed("up.weight", lambda t: t[:-1].clone()), "up.weight"),
    bad("codes of the right size and another shape", changed("up.weight", lambda t: t.reshape(-1)), "up.weight"),
    bad("a scale for too many channels", changed("up.weight_scale", lambda t: torch.cat([t, t])), "up.weight_scale"),
    bad(
        "a scale in half precision", changed("up.weight_scale", lambda t: t.half()), "up.weight_scale is torch.float16"
    ),
    bad(
        "a scale in double precision",
        changed("up.weight_scale", lambda t: t.double()),
        "up.weight_scale is torch.float64",
    ),
    bad(
        "a scale in 8 bits",
        changed("up.input_scale", lambda t: t.to(torch.float8_e5m2)),
        "up.input_scale is torch.float8_e5m2",
    ),
    bad("a scale of whole numbers", changed("up.weight_scale", lambda t: t.int()), "up.weight_scale is torch.int32"),
    bad(
        "a complex scale",
        changed("up.weight_scale", lambda t: t.to(torch.complex64)),
        "up.weight_scale is torch.complex64",
    ),
    bad("a weight's scale that is NaN", number("up.weight_scale", math.nan), SCALE),
    bad("a weight's scale that is infinite", number("up.weight_scale", math.inf), SCALE),
    bad("a weight's scale that is zero", number("up.weight_scale", 0), SCALE),
    bad("a weight's scale that is negative", number("up.weight_scale", -1e-3), SCALE),
    bad("an input's scale that is NaN", number("up.input_scale", math.nan), INPUT),
    bad("an input's scale that is infinite", number("up.input_scale", math.inf), INPUT),
    bad("an input's scale that is zero", number("up.input_scale", 0), INPUT),
    bad("an input's scale that is negative", number("up.input_scale", -1e-3), INPUT),
    bad(
        "a zero point above all codes", number("up.input_zero_point", 256), r"up.input_zero_point is outside \[0, 255\]"
    ),
    bad(
        "a zero point below all codes", number("up.input_zero_point", -1), r"up.input_zero_point is outside \[0, 255\]"
    ),
    bad("a zero point of two billion", number("up.input_zero_point", 2**31 - 1), "up.input_zero_point is outside"),
]
