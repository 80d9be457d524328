"""What happens to plugins, line by line: the logger ``mono_quant.plugins``, or standard error by a switch."""

import logging
import os

__all__ = ["log", "trace_if_asked"]

_SWITCH = "MONO_QUANT_TRACE_PLUGINS"

log = logging.getLogger("mono_quant.plugins")


def trace_if_asked() -> None:
    """With ``MONO_QUANT_TRACE_PLUGINS=1``, write every line of the log to standard error from now on."""
    if os.environ.get(_SWITCH, "") in {"", "0"} or any(handler.name == _SWITCH for handler in log.handlers):
        return
    handler = logging.StreamHandler()
    handler.name = _SWITCH
    handler.setFormatter(logging.Formatter("mono_quant.plugins: %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    log.propagate = False  # or it would be written twice where the application logs to standard error itself
