"""What the clusters follow: the anatomy or the patient?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

POSITION_BINS = 10


def agreement(labels: NDArray[np.int64], patients: Sequence[str], positions: NDArray[Any]) -> dict[str, float]:
    """How far clusters agree with the patient and with the position along the body.

    Args:
        labels: the cluster of each slice.
        patients: its patient.
        positions: its position in the volume, in [0, 1].

    Returns:
        ``nmi_patient`` and ``nmi_position`` (ten bins), normalised mutual information in [0, 1];
        ``same_patient_share``, the share of the pairs within clusters that are of one patient, and
        ``same_patient_chance``, that share among all pairs.
    """
    _, patient = np.unique(np.asarray(patients), return_inverse=True)
    bins = np.minimum((np.asarray(positions) * POSITION_BINS).astype(int), POSITION_BINS - 1)
    in_cluster = _pairs(np.bincount(labels))
    same_both = _pairs(contingency_matrix(labels, patient).ravel())
    return {
        "nmi_patient": float(normalized_mutual_info_score(patient, labels)),
        "nmi_position": float(normalized_mutual_info_score(bins, labels)),
        "same_patient_share": same_both / in_cluster if in_cluster else 0.0,
        "same_patient_chance": _pairs(np.bincount(patient)) / max(_pairs(np.array([len(labels)])), 1.0),
    }


def warning(figures: Mapping[str, float]) -> str | None:
    """A plain sentence if the clusters follow patients more than anatomy, else ``None``."""
    if figures["nmi_patient"] <= figures["nmi_position"]:
        return None
    return (
        f"the clusters follow the patient (NMI {figures['nmi_patient']:.2f}) more than the position in the body (NMI "
        f"{figures['nmi_position']:.2f}): contrast may learn to tell patients apart. Keep centred on, or take fewer "
        "clusters."
    )


def _pairs(counts: NDArray[Any]) -> float:
    return float((counts * (counts - 1) / 2).sum())
