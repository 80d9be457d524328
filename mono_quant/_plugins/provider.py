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
    """

    name: str
    distribution: str = ""
    version: str = ""
    status: Literal["active", "broken", "blocked"] = "active"
    error: str = ""
    import_ms: float = 0.0

    @property
    def is_builtin(self) -> bool:
        """Whether it came with mono_quant itself."""
        return self.distribution == OWN_DISTRIBUTION

    @property
    def is_explicit(self) -> bool:
        """Whether the user passed it to a `Quantizer`."""
        return not self.distribution

    def __str__(self) -> str:
        return (
            f"{self.name} (passed to Quantizer)"
            if self.is_explicit
            else (f"{self.name} ({self.distribution} {self.version})")
        )
