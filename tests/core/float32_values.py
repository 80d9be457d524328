"""What the property tests of the numerics draw from."""

from hypothesis import strategies as st

__all__ = ["LARGEST", "finite", "rows", "values"]

LARGEST = 1.75 * 2.0**127
"""About 3e38: so far below the largest float32 that the half step by which a code may overshoot is finite too."""


def finite() -> st.SearchStrategy[float]:
    """Float32 numbers up to `LARGEST`, of every magnitude down to the smallest subnormal, and zero."""
    limits = st.one_of(st.just(LARGEST), st.just(1.0), st.integers(-149, 127).map(lambda exponent: 2.0**exponent))
    return limits.flatmap(lambda limit: st.floats(-limit, limit, width=32))


def values() -> st.SearchStrategy[list[float]]:
    """Numbers of one tensor: of any sign or of one, spread over magnitudes or all alike."""
    some = st.lists(finite(), min_size=1, max_size=12)
    one_sign = st.tuples(some, st.sampled_from((1, -1))).map(lambda drawn: [drawn[1] * abs(x) for x in drawn[0]])
    alike = st.tuples(finite(), st.integers(1, 12)).map(lambda drawn: [drawn[0]] * drawn[1])
    return st.one_of(some, one_sign, alike)


def rows() -> st.SearchStrategy[list[float]]:
    """One row of a weight: as `values`, or half steps that round exactly at the bounds of the codes."""
    half_steps = st.lists(st.integers(-254, 254).map(lambda n: n / 2), min_size=1, max_size=12)
    at_bounds = st.sampled_from((-127.0, -64.5, -63.5, 0.0, 0.5, 1.5, 62.5, 63.5, 64.5, 65.5, 127.0))
    unit = st.sampled_from((2.0**-100, 2.0**-7, 1.0, 1 / 3, 2.0**100))
    steps = st.one_of(half_steps, st.lists(at_bounds, min_size=1, max_size=6))
    return st.one_of(values(), st.tuples(steps, unit).map(lambda drawn: [x * drawn[1] for x in drawn[0]]))
