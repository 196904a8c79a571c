"""The space in which slices were clustered, as ``centroids.npz`` keeps it. Needs NumPy alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ufc_monai.base.files import read_arrays


@dataclass(frozen=True)
class Scaling:
    """A map of features that new slices can go through, too: shift, then matrix, then perhaps to length 1.

    Attributes:
        shift: (d,).
        matrix: (d, m).
        unit: whether each feature is divided by its length; one of length 0 stays.
    """

    shift: NDArray[np.float64]
    matrix: NDArray[np.float64]
    unit: bool

    def __call__(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """Map features (n, d) to (n, m)."""
        scaled: NDArray[np.float64] = (np.asarray(features, dtype=np.float64) - self.shift) @ self.matrix
        if self.unit:
            lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
            scaled /= np.where(lengths > 0, lengths, 1.0)
        return scaled


class ClusterSpace(NamedTuple):
    """What :func:`load_space` reads.

    Attributes:
        scaling: how features come there.
        centres: of the clusters, (k, m).
        centred: whether each patient's mean is taken from the features before.
        model_sha256: of the network that the features come from; empty if it is not known.
    """

    scaling: Scaling
    centres: NDArray[np.float64]
    centred: bool
    model_sha256: str


def load_space(path: str | os.PathLike[str]) -> ClusterSpace:
    """Read ``centroids.npz``.

    Raises:
        InputError: if it is missing, damaged or lacks something.
    """
    file = read_arrays(path, "shift", "matrix", "unit", "centroids", "patients")
    scaling = Scaling(file["shift"], file["matrix"], bool(file["unit"]))
    return ClusterSpace(scaling, file["centroids"], len(file["patients"]) > 0, str(file.get("model_sha256", "")))
