"""The yardstick: clusters of the slices' pixel values, which any learned feature has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ufc_monai.clustering.centring import centre_per_patient
from ufc_monai.clustering.tree import merge_tree

LARGEST = 5000
"""At most so many slices are clustered by their grey values."""

SIDE = 16
"""Side in pixels of the slices that are clustered as they are."""


def raw_pixels(thumbnails: NDArray[Any]) -> NDArray[np.float64]:
    """Slices (n, h, w) or (n, h, w, 3) as vectors of at most 16 x 16 mean values, (n, 256 or 768)."""
    n, height, width = thumbnails.shape[:3]
    rows, columns = (np.arange(SIDE + 1) * side // SIDE for side in (height, width))
    if min(height, width) < SIDE:
        return thumbnails.reshape(n, -1).astype(np.float64)
    sums = np.add.reduceat(np.add.reduceat(thumbnails.astype(np.float64), rows[:-1], axis=1), columns[:-1], axis=2)
    areas = np.outer(np.diff(rows), np.diff(columns)).reshape(SIDE, SIDE, *(1,) * (sums.ndim - 3))
    return np.asarray((sums / areas).reshape(n, -1))


def raw_pixel_tree(thumbnails: NDArray[Any], patients: Sequence[str], *, centred: bool) -> dict[str, NDArray[Any]]:
    """Ward's tree of the grey values of slices, spread evenly if there are too many.

    Args:
        thumbnails: small pictures of all slices, (n, h, w) or (n, h, w, 3).
        patients: whose they are, (n,).
        centred: subtract each patient's mean first.

    Returns:
        ``tree``, SciPy's linkage matrix, and ``slices``, the indices of those clustered.
    """
    some = np.unique(np.linspace(0, len(thumbnails) - 1, LARGEST).round().astype(int))
    pixels = raw_pixels(thumbnails[some])
    if centred:
        pixels, _ = centre_per_patient(pixels, [patients[i] for i in some])
    return {"tree": merge_tree(pixels), "slices": some}
