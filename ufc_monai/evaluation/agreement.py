"""Do clusters reproduce labels that an expert gave? The measures, beside baselines, with intervals over patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    adjusted_rand_score,
    davies_bouldin_score,
    normalized_mutual_info_score,
    silhouette_score,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Numbers = NDArray[np.int64]
Codes = tuple[NDArray[Any], NDArray[Any]]
"""Of training and of held-out slices, (n, d) and (m, d)."""
NEIGHBOURS = 5
RESAMPLES = 500
MOST = 5000
"""Slices from which silhouette and Davies-Bouldin index are computed, at most."""
MEASURES = ("accuracy", "hungarian", "nmi", "ari", "knn", "linear_probe")
"""Those with an interval."""
SPREAD = ("silhouette", "davies_bouldin")
GROUPS = "patient_groups_ari"
"""Of the groups that a run's clusters make of stage 1's patients, with those of the first run."""


@dataclass(frozen=True)
class Observed:
    """What an observer says of slices.

    Attributes:
        training: the class of each slice that may be learned from, 0 to C - 1; -1 where there is no label, (n,).
        held_out: of each slice to judge on, (m,).
        patients: of these, (m,).
        names: of the classes.
    """

    training: Numbers
    held_out: Numbers
    patients: NDArray[np.str_]
    names: Sequence[str]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which training slices have a label, (n,)."""
        return self.training >= 0


Row = dict[str, float]
"""Measures by name; of those in :data:`MEASURES` also ``_low`` and ``_high``, the 95 % interval."""


def judge(seen: Observed, codes: Codes, clusters: tuple[Numbers, Numbers], k: int) -> Row:
    """All measures of some clusters, and of the codes that they are made of.

    Everything is fitted on training slices with a label and measured on held-out ones.

    Args:
        seen: the labels.
        codes: what was clustered.
        clusters: of training and held-out slices, 0 to k - 1.
        k: how many clusters.

    Returns:
        ``accuracy`` when each cluster stands for the class of most of its labelled training slices; ``hungarian`` when
        it stands for one class of its own, only where there are as many; ``nmi`` and ``ari``; ``knn`` and
        ``linear_probe``, accuracies of five neighbours and of a logistic regression on the codes; ``silhouette`` and
        ``davies_bouldin`` of the clusters.
    """
    counts = contingency(clusters[0][seen.known], seen.training[seen.known], k, len(seen.names))
    right = {"accuracy": majority_classes(counts)[clusters[1]] == seen.held_out}
    if k == len(seen.names):
        right["hungarian"] = matched_classes(counts)[clusters[1]] == seen.held_out
    for name, model in (
        ("knn", KNeighborsClassifier(min(NEIGHBOURS, int(seen.known.sum())))),
        ("linear_probe", make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))),
    ):
        fitted = model.fit(codes[0][seen.known], seen.training[seen.known])
        right[name] = fitted.predict(codes[1]) == seen.held_out
    row: Row = {}
    for name, correct in right.items():
        row |= with_interval(name, partial(_mean, correct), seen.patients)
    for name, score in (("nmi", normalized_mutual_info_score), ("ari", adjusted_rand_score)):
        row |= with_interval(name, partial(_score, score, seen.held_out, clusters[1]), seen.patients)
    some = np.random.default_rng(0).permutation(len(clusters[1]))[:MOST]
    if 2 <= len(np.unique(clusters[1][some])) < len(some):
        row["silhouette"] = float(silhouette_score(codes[1][some], clusters[1][some]))
        row["davies_bouldin"] = float(davies_bouldin_score(codes[1][some], clusters[1][some]))
    return row


def of_predictions(seen: Observed, predicted: Numbers) -> Row:
    """The accuracy of a classifier's predictions of the held-out slices, (m,)."""
    return with_interval("accuracy", partial(_mean, predicted == seen.held_out), seen.patients)


def majority_rate(seen: Observed) -> Row:
    """The accuracy of always naming the most frequent class."""
    return of_predictions(seen, np.full(len(seen.held_out), np.bincount(seen.training[seen.known]).argmax()))


def k_means(codes: Codes, k: int, seed: int = 0) -> tuple[Numbers, Numbers]:
    """Clusters of training codes, and the nearest of these for held-out ones."""
    fitted = KMeans(k, n_init=4, random_state=seed).fit(np.asarray(codes[0], dtype=np.float64))
    return fitted.labels_.astype(np.int64), fitted.predict(np.asarray(codes[1], dtype=np.float64)).astype(np.int64)


def contingency(clusters: Numbers, classes: Numbers, k: int, n_classes: int) -> Numbers:
    """How many slices of each cluster have each class, (k, n_classes)."""
    counts = np.zeros((k, n_classes), dtype=np.int64)
    np.add.at(counts, (clusters, classes), 1)
    return counts


def majority_classes(counts: Numbers) -> Numbers:
    """The class of most slices of each cluster, (k,); without any, the class that most other clusters have."""
    classes, empty = counts.argmax(axis=1), counts.sum(axis=1) == 0
    classes[empty] = np.bincount(classes[~empty]).argmax()
    return np.asarray(classes)


def matched_classes(counts: Numbers) -> Numbers:
    """A class of its own for each cluster, (k,), so that most slices have that of their cluster."""
    clusters, classes = linear_sum_assignment(counts, maximize=True)
    return np.asarray(classes[np.argsort(clusters)])


def with_interval(name: str, statistic: Callable[[NDArray[np.intp]], float], patients: NDArray[np.str_]) -> Row:
    """A statistic of all slices, and its 95 % percentile interval when patients are drawn anew.

    Args:
        name: of the statistic.
        statistic: of the slices at some indices.
        patients: of all slices, (m,).
    """
    _, which = np.unique(patients, return_inverse=True)
    slices = [np.flatnonzero(which == i) for i in range(int(which.max()) + 1)]
    draw = np.random.default_rng(0)
    drawn = (draw.integers(len(slices), size=len(slices)) for _ in range(RESAMPLES))
    values = [statistic(np.concatenate([slices[i] for i in some])) for some in drawn]
    low, high = np.percentile(values, [2.5, 97.5]).tolist()
    return {name: statistic(np.arange(len(patients))), f"{name}_low": low, f"{name}_high": high}


def _mean(correct: NDArray[np.bool_], some: NDArray[np.intp]) -> float:
    return float(correct[some].mean())


def _score(score: Callable[..., float], classes: Numbers, clusters: Numbers, some: NDArray[np.intp]) -> float:
    return float(score(classes[some], clusters[some]))
