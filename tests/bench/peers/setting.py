"""How many threads, and with which instructions."""

import attrs

__all__ = ["AVX2", "FULL", "Setting"]

FULL = "full"
AVX2 = "avx2"

_LIMIT = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
}
"""What torch reads, its Inductor too; OpenVINO reads the first."""


@attrs.frozen
class Setting:
    """One of the settings that everything is measured in.

    Args:
        threads: of the peer and of float eager.
        isa: ``"full"`` for all that the machine has, ``"avx2"`` for torch's kernels limited to that.
    """

    threads: int = attrs.field(converter=int)
    isa: str = attrs.field(default=FULL, validator=attrs.validators.in_((FULL, AVX2)))

    @property
    def is_limited(self) -> bool:
        """Whether not all instructions of the machine may be used."""
        return self.isa == AVX2

    @property
    def title(self) -> str:
        """For people."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{threads}, {'limited to AVX2' if self.is_limited else 'all instructions of the machine'}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a process is started with."""
        return {"OMP_NUM_THREADS": str(self.threads), **(_LIMIT if self.is_limited else {})}
