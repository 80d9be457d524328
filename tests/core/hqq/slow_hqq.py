"""Half-quadratic splitting of one group by the book, number by number in float64. No code of mono_quant's."""

import math

__all__ = ["best_of_all", "codes_of", "split", "sum_of_powers"]


def codes_of(weights: list[float], scale: float, zero_point: float, low: int, high: int) -> list[float]:
    """The nearest codes; `round` is to even, as torch's."""
    return [min(max(round(w / scale) + zero_point, low), high) for w in weights]


def sum_of_powers(
    weights: list[float], scale: float, zero_point: float, low: int, high: int, *, power: float, unit: float
) -> float:
    """``Σ |r|^p`` of the nearest codes, ``r`` in units."""
    codes = codes_of(weights, scale, zero_point, low, high)
    return sum(abs((w - (q - zero_point) * scale) / unit) ** power for w, q in zip(weights, codes, strict=True))


def split(
    weights: list[float], scale: float, zero_point: float, low: int, high: int, *, is_symmetric: bool, power: float,
    steps: int,
) -> tuple[float, float]:  # fmt: skip
    """A better scale and zero point, or those that were given."""
    unit, count = scale * (high - low), len(weights)
    best, penalty = (scale, zero_point), 10.0
    least = 0.999 * sum_of_powers(weights, scale, zero_point, low, high, power=power, unit=unit)
    for _ in range(steps):
        codes = codes_of(weights, scale, zero_point, low, high)
        wanted = []
        for w, q in zip(weights, codes, strict=True):
            r = (w - (q - zero_point) * scale) / unit
            e = math.copysign(max(abs(r) - abs(r) ** (power - 1) / penalty, 0.0), r) if r else 0.0
            wanted.append(w - e * unit)
        if not is_symmetric:
            q_mean, t_mean = sum(codes) / count, sum(wanted) / count
            spread = sum((q - q_mean) ** 2 for q in codes)
            slope = (
                sum((q - q_mean) * (t - t_mean) for q, t in zip(codes, wanted, strict=True)) / spread if spread else 0
            )
            if slope > 0:
                zero_point = min(max(round(q_mean - t_mean / slope), low), high)
        square = sum((q - zero_point) ** 2 for q in codes)
        slope = sum((q - zero_point) * t for q, t in zip(codes, wanted, strict=True)) / square if square else 0
        scale = slope if slope > 0 else scale
        found = sum_of_powers(weights, scale, zero_point, low, high, power=power, unit=unit)
        if found >= least:
            break
        best, least, penalty = (scale, zero_point), found, penalty * 1.01
    return best


def best_of_all(weights: list[float], scale: float, low: int, high: int, *, power: float) -> float:
    """About the least ``Σ |r|^p`` of any pair: all zero points, 400 scales from a fifth to 1.2 times the given."""
    unit = scale * (high - low)
    return min(
        sum_of_powers(weights, scale * (0.2 + step / 400), zero_point, low, high, power=power, unit=unit)
        for step in range(401)
        for zero_point in range(low, high + 1)
    )
