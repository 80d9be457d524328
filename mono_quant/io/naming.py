"""Errors about a file name it, and stay short and printable whatever the file holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mono_quant.errors import ArtifactError, PluginError

__all__ = ["naming"]

_LONGEST = 1000


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Around work with a file: what is raised says which file, without what a terminal would act on."""
    try:
        yield
    except (ArtifactError, PluginError) as error:
        text = str(error)
        left = len(text) - _LONGEST
        shown = f"{text[:_LONGEST]}... and {left:,} more characters" if left > 0 else text
        named = shown if _names(shown, str(path)) else f"{path}: {shown}"
        error.args = ("".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in named),)
        raise


def _names(text: str, path: str) -> bool:
    """Whether a message has the path in it; a path that could be a word of it must come first."""
    is_like_a_word = path.isidentifier()
    return text.startswith(path) if is_like_a_word else path in text
