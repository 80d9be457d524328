"""What a command needed of the machine."""

import sys

if sys.platform != "win32":
    import resource

__all__ = ["peak_memory_mb"]


def peak_memory_mb() -> float | None:
    """The most memory that this process has had so far, in MB of 2^20 bytes; None on Windows."""
    if sys.platform == "win32":
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, kB elsewhere
