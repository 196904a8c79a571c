"""Which volumes to label first: those that together cover the clusters best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ufc_monai.clustering.pseudo_labels import PseudoLabels


@dataclass(frozen=True)
class Coverage:
    """Volumes in the order in which they are best labelled.

    Attributes:
        chosen: their indices.
        covered: after each of them, how much of the average volume is covered, in [0, 1].
        random: what as many volumes drawn at random cover on average.
    """

    chosen: list[int]
    covered: list[float]
    random: list[float]


def cluster_histograms(clusters: Sequence[Sequence[int]], n_clusters: int) -> NDArray[np.float64]:
    """The share of each cluster among the slices of each volume, (volumes, n_clusters); rows sum to 1.

    Args:
        clusters: for each volume the cluster of each slice.
        n_clusters: their number.
    """
    counts = np.array([np.bincount(labels, minlength=n_clusters) for labels in clusters], dtype=np.float64)
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def choose_volumes(
    histograms: NDArray[np.float64],
    budget: int,
    *,
    labelled: Sequence[int] = (),
    candidates: Sequence[int] | None = None,
    draws: int = 200,
    seed: int = 0,
) -> Coverage:
    r"""Choose volumes by greedy facility location.

    One volume covers another by as much as their histograms overlap, and a set S covers

    .. math:: f(S) = \frac{1}{n} \sum_u \max_{v \in S} \sum_c \min(h_{uc}, h_{vc})

    of the average volume. f is submodular, so that choosing the volume that adds most, one after the other, covers at
    least 1 - 1/e of what the best set of each size would (Nemhauser, Wolsey and Fisher 1978). Among equals the first
    wins.

    Args:
        histograms: h, (n, clusters); see :func:`cluster_histograms`.
        budget: how many to choose.
        labelled: volumes that have labels already; they cover from the start and are not chosen.
        candidates: volumes that may be chosen; ``None`` is all.
        draws: random orders that the comparison is averaged over.
        seed: of these.

    Example:
        >>> choose_volumes(np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), 2, draws=1).chosen
        [1, 2]
    """
    overlap = np.array([np.minimum(h, histograms).sum(axis=1) for h in histograms])
    start = overlap[:, list(labelled)].max(axis=1, initial=0.0)
    left = sorted(set(range(len(histograms)) if candidates is None else candidates) - set(labelled))
    if not 1 <= budget <= len(left):
        raise ValueError(f"expected a budget of 1 to {len(left)}, got {budget}")
    chosen: list[int] = []
    best = start
    for _ in range(budget):
        open_ = [v for v in left if v not in chosen]
        reached = np.maximum(overlap[:, open_], best[:, None]).sum(axis=0)
        chosen.append(open_[int(np.argmax(reached.round(9)))])  # rounding errors must not decide between equals
        best = np.maximum(best, overlap[:, chosen[-1]])
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(left)[:budget].tolist() for _ in range(draws)]
    return Coverage(
        chosen,
        _covered(overlap, start, chosen),
        np.mean([_covered(overlap, start, o) for o in orders], axis=0).tolist(),
    )


def covering_order(labels: PseudoLabels, images: Sequence[str]) -> list[str]:
    """Some of the images of a ``pseudo_labels.json`` in the order in which they cover all of them best."""
    everyone = sorted(labels.clusters)
    histograms = cluster_histograms([labels.clusters[image] for image in everyone], labels.n_clusters)
    candidates = [everyone.index(image) for image in images]
    return [everyone[i] for i in choose_volumes(histograms, len(images), candidates=candidates).chosen]


def _covered(overlap: NDArray[np.float64], start: NDArray[np.float64], order: Sequence[int]) -> list[float]:
    """F after each volume of an order."""
    reached = np.maximum.accumulate(np.column_stack([start, overlap[:, list(order)]]), axis=1)
    return [float(share) for share in reached[:, 1:].mean(axis=0)]
