"""Watching changes nothing and keeps nothing."""

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode
from watched_nets import Net, images, watch

from mono_quant.core.dataflow import DataFlowRecorder
from mono_quant.core.intervention import ProvenFlow


def hooks(model: nn.Module) -> list[object]:
    return [hook for m in model.modules() for hook in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]


def test_a_watched_output_dies_as_soon_as_the_model_drops_it():
    is_dead = []

    def body(net: Net, x: Tensor) -> Tensor:
        y = net.conv(x)
        output = weakref.ref(y)
        z = net.bn(y)
        del y
        is_dead.append(output() is None)
        return z

    gc.disable()
    try:
        watch(Net(body), images(3))
    finally:
        gc.enable()
    assert is_dead == [True] * 3


def test_a_recorder_keeps_no_tensor_of_a_pass():
    def tensors() -> set[int]:
        gc.collect()
        return {id(value) for value in gc.get_objects() if issubclass(type(value), Tensor)}

    net = Net(lambda net, x: net.bn(net.conv(x)))
    batches = images()
    watch(net, batches)
    before = tensors()
    recorder = watch(net, batches)
    assert tensors() == before
    assert recorder.only_consumer("conv") == "bn"


def test_hooks_and_mode_are_gone_after_a_pass():
    net = Net(lambda net, x: net.bn(net.conv(x)))
    watch(net, images())
    assert hooks(net) == []
    assert _get_current_function_mode() is None


@pytest.mark.parametrize("culprit", ["conv", "bn", "body"])
def test_hooks_and_mode_are_gone_after_a_pass_that_failed(culprit: str):
    def body(net: Net, x: Tensor) -> Tensor:
        y = net.conv(x[:, :2] if culprit == "conv" else x)
        z = net.bn(y[:, :1] if culprit == "bn" else y)
        return z.reshape(7) if culprit == "body" else z

    net = Net(body)
    with pytest.raises((RuntimeError, ValueError)):
        watch(net, images())
    assert hooks(net) == []
    assert _get_current_function_mode() is None


def test_an_exception_that_the_model_catches_does_not_confuse_the_watch():
    def body(net: Net, x: Tensor) -> Tensor:
        try:
            net.other(x)
        except RuntimeError:
            y = net.conv(x)
        return net.bn(y) + y

    net = Net(body)
    net.other = nn.Conv2d(7, 4, 1)
    assert watch(net, images()).only_consumer("conv") is None


def test_watching_gives_the_model_the_same_output():
    net = Net(lambda net, x: net.bn(net.conv(x)))
    batch = images()[0]
    recorder = DataFlowRecorder(net, ["conv", "bn"])
    with torch.no_grad(), recorder.batch():
        output = net(batch)
    with torch.no_grad():
        assert torch.equal(output, net(batch))


def test_intervening_leaves_no_hook_and_no_tensor():
    net = Net(lambda net, x: net.bn(net.conv(x)))
    batch = images()[0]
    flow = ProvenFlow(net, watch(net, [batch]), lambda: net(batch))
    with torch.no_grad():
        assert flow.only_consumer("conv") == "bn"
    assert hooks(net) == []
    with torch.no_grad():
        assert bool(torch.isfinite(net(batch)).all())
