"""AdaRound: each weight is rounded up or down, whichever way is best for the outputs on real inputs."""

from mono_quant.core.adaround.adaround import AdaRound

__all__ = ["AdaRound"]
