"""The two markers that connect a plugin's functions with the hook specifications, and the versions of the contract."""

import pluggy

__all__ = ["API_VERSION", "HOOK_PREFIX", "OLDEST_API_VERSION", "PROJECT", "hookimpl", "hookspec"]

PROJECT = "mono_quant"
HOOK_PREFIX = "mono_quant_"

API_VERSION = 2
"""Version of the plugin contract; it grows by one when something is added to it.

A plugin may state the one it was written for: ``MONO_QUANT_API_VERSION = 2``.
"""

OLDEST_API_VERSION = 1
"""The oldest version whose plugins still work; it grows when something that was deprecated is taken away."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
