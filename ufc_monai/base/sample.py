"""A few of many, evenly spread."""

from __future__ import annotations


def spread(n: int, most: int) -> list[int]:
    """At most ``most`` indices spread evenly over ``range(n)``.

    Example:
        >>> spread(9, 3)
        [1, 4, 7]
    """
    k = min(n, most)
    return [(2 * i + 1) * n // (2 * k) for i in range(k)]
