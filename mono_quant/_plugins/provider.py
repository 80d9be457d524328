"""Who provides components, and whether that worked."""

from typing import Literal

import attrs

__all__ = ["OWN_DISTRIBUTION", "Provider"]

OWN_DISTRIBUTION = "mono-quant"


@attrs.frozen(kw_only=True)
class Provider:
    """One plugin and what became of it.

    Args:
        name: entry-point name, or the module or class of a plugin passed to ``Quantizer(plugins=[...])``.
        distribution: the installed distribution that brought it; empty for one passed directly.
        version: version of that distribution.
        status: ``"active"``, ``"broken"`` (see ``error``) or ``"blocked"`` (by a switch).
        error: why it is broken.
        import_ms: milliseconds its import took.
        is_explicit: whether the user passed it to a `Quantizer`, installed or not.
    """

    name: str
    distribution: str = ""
    version: str = ""
    status: Literal["active", "broken", "blocked"] = "active"
    error: str = ""
    import_ms: float = 0.0
    is_explicit: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """Who it is, whatever became of it."""
        return self.distribution, self.name

    @property
    def is_builtin(self) -> bool:
        """Whether it came with mono_quant itself."""
        return self.distribution == OWN_DISTRIBUTION

    def __str__(self) -> str:
        where = f"{self.distribution} {self.version}".strip()
        return f"{self.name} ({where or 'passed to Quantizer'})"
