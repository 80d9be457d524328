"""Runtimes: something that runs a whole quantized model."""

from abc import ABC, abstractmethod

from torch import nn

from mono_quant.plugin_api.kernel import Support
from mono_quant.plugin_api.source import Batch

__all__ = ["Runtime"]


class Runtime(ABC):
    """One way to run a quantized model as a whole, with the weights, scales and zero points that it has.

    What is asked for by its name is compiled and compared with the reference kernels; ``"auto"`` does so with every
    runtime that supports the model, and takes the fastest.
    """

    is_slow_to_compile: bool = False
    """Whether that takes many seconds: then ``"auto"`` tries it last."""

    def supports(self, model: nn.Module) -> Support:
        """Whether it can run this model here: its packages are there, the machine is of its kind.

        Looks, and does no work: what `compile` finds out is an error there.
        """
        del model
        return Support()

    @abstractmethod
    def compile(self, model: nn.Module, example: Batch) -> nn.Module:
        """A module that is called as the model is and gives what the model gives.

        It is used for inference, by several threads at once, with any number of rows, and with as many threads of its
        own as ``torch.get_num_threads()`` says now; neither ``eval()`` nor ``train()`` is called on it. It may refuse,
        with an error that says what to do, what the example does not lead to expect: other sizes of the other axes,
        other keywords, gradients.

        Args:
            model: a quantized model in eval mode, which stays as it is; later changes of it need not be followed.
            example: a real batch.

        Raises:
            MonoQuantError: when it cannot run the model, naming what it does not know.
        """

    def versions(self) -> dict[str, str]:
        """What it runs on besides its own distribution: package → version. With others, a measurement is made again.

        It is asked for only where `supports` says yes.
        """
        return {}

    def details(self, compiled: nn.Module) -> str:
        """What users may want to know of a model that it compiled, in a few words: precision, kernels; or nothing."""
        del compiled
        return ""
