"""What of the contract goes away: named here, with a warning, for two minor versions before it is gone."""

import attrs

__all__ = ["DEPRECATIONS", "Deprecation"]


@attrs.frozen
class Deprecation:
    """A field of a record, or a method of an interface, that goes away.

    Args:
        owner: the record or the interface.
        member: its field or method.
        since: the version of mono_quant that warns first, ``"2.1"``.
        gone: the one in which it is gone, at least two minor versions later, ``"2.3"``.
        instead: what to use, as a clause.
    """

    owner: type
    member: str
    since: str
    gone: str
    instead: str

    def __str__(self) -> str:
        return (
            f"{self.owner.__name__}.{self.member} is deprecated since mono_quant {self.since} and gone in {self.gone}: "
            f"{self.instead}"
        )


DEPRECATIONS: list[Deprecation] = []
"""All of them."""
