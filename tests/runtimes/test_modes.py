"""A compiled model has no modes: what runtimes make may refuse to be switched."""

import pytest
import torch
from torch import nn

from mono_quant import Batch, Quantizer
from mono_quant.plugin_api import Runtime, RuntimeSpec, hookimpl
from mono_quant.runtimes import compare_runtimes, export_program
from mono_quant.testing.models import batches, small_net


class Exports(Runtime):
    """What it gives raises in ``eval()``, as torch made it."""

    def compile(self, model: nn.Module, example: Batch) -> nn.Module:
        return export_program(model, example).module()


class Plugin:
    @hookimpl
    def mono_quant_runtimes(self) -> list[RuntimeSpec]:
        return [RuntimeSpec(name="exports", summary="for a test", factory=Exports)]


def test_a_module_that_refuses_eval_is_run():
    result = Quantizer(validators=(), plugins=[Plugin()], show_progress=False).quantize(small_net(), batches())
    with pytest.raises(NotImplementedError):
        Exports().compile(result.model, Batch((batches()[0],))).eval()
    compiled = result.compile("exports")
    torch.testing.assert_close(compiled(batches()[1]), result.model(batches()[1]))


def test_a_module_that_refuses_eval_is_timed_beside_others():
    model = Quantizer(validators=(), show_progress=False).quantize(small_net(), batches()).model
    ((timing,), _) = compare_runtimes(model, Batch((batches()[0],)), [("exports", Exports())], budget_s=1.0)
    assert timing.ms is not None
    assert timing.why_not == ""


@pytest.mark.parametrize("runtime", ["exports", "torch"])
def test_a_compiled_model_stays_as_it_is_when_it_is_told_to_train(runtime: str):
    result = Quantizer(validators=(), plugins=[Plugin()], show_progress=False).quantize(small_net(), batches())
    compiled = result.compile(runtime)
    assert compiled.eval() is compiled
    assert compiled.train() is compiled
    assert not compiled.training
    assert not nn.Sequential(compiled).train()[0].training
    assert not any(module.training for module in result.model.modules())
