"""Names as people can read them: a model may use any text."""

import html

__all__ = ["decibels", "escape", "megabytes", "name_of", "printable", "shortened"]


def printable(text: str) -> str:
    r"""The text with everything that does not print, or changes the direction of writing, as an escape.

    >>> printable("a\n\u202eb")
    'a\\n\\u202eb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def escape(text: str) -> str:
    """The text for HTML, also inside of an attribute.

    >>> escape('<b title="x">')
    '&lt;b title=&quot;x&quot;&gt;'
    """
    return html.escape(printable(text))


def name_of(layer: str) -> str:
    """The name of a layer; that of the model itself is empty."""
    return layer or "(model)"


def shortened(text: str, length: int) -> str:
    """The text without its middle where it is longer: layers differ at both ends.

    >>> shortened("encoder.layers.11.self_attn", 15)
    'encoder…lf_attn'
    """
    half = (length - 1) // 2
    return text if len(text) <= length else f"{text[: length - 1 - half]}…{text[-half:]}"


def decibels(value: float | None) -> str:
    """A figure in dB; a dash where there is none.

    >>> decibels(31.26), decibels(float("inf")), decibels(None)
    ('31.3 dB', 'exact', '–')
    """
    if value is None:
        return "–"
    if value != value:  # noqa: PLR0124 - it is not a number
        return "not finite"
    if value in (float("inf"), float("-inf")):
        return "exact" if value > 0 else "zero signal"
    return f"{value:.1f} dB"


def megabytes(count: int) -> str:
    """Bytes in MB of 2^20.

    >>> megabytes(3 * 2**19)
    '1.50 MB'
    """
    return f"{count / 2**20:.2f} MB"
