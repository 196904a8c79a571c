from __future__ import annotations

import pytest

from ufc_monai.base.sample import spread


@pytest.mark.parametrize(("n", "most", "expected"), [(3, 8, [0, 1, 2]), (9, 3, [1, 4, 7]), (1, 8, [0])])
def test_spread(n: int, most: int, expected: list[int]) -> None:
    assert spread(n, most) == expected
    assert len(set(spread(2001, 2000))) == 2000
