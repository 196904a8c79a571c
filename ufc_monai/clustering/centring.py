"""Taking the patient out of the features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ufc_monai.clustering.centroids import centroids


def centre_per_patient(
    features: NDArray[Any], patients: Sequence[str]
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Subtract from every slice's feature the mean feature of its patient.

    Otherwise clusters follow the scanner and the patient rather than the anatomy.

    Args:
        features: (n, d).
        patients: the patient of each slice.

    Returns:
        The centred features (n, d) and each patient's mean (d,), patients sorted.
    """
    names, index = np.unique(np.asarray(patients), return_inverse=True)
    means = centroids(features, index)
    return features - means[index], dict(zip(names.tolist(), means, strict=True))
