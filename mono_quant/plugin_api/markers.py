"""The two markers that connect a plugin's functions with the hook specifications."""

import pluggy

__all__ = ["API_VERSION", "HOOK_PREFIX", "PROJECT", "hookimpl", "hookspec"]

PROJECT = "mono_quant"
HOOK_PREFIX = "mono_quant_"

API_VERSION = 1
"""Version of the plugin contract. A plugin may state the one it was written for: ``MONO_QUANT_API_VERSION = 1``."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
