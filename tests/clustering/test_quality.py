from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from ufc_monai.clustering.quality import quality, size_warning


def test_figures_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    features = np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [9.0]])
    figures = quality(features, labels)
    assert figures["largest_share"] == 0.5
    assert figures["single_slices"] == 1
    assert figures["silhouette"] == pytest.approx(silhouette_score(features, labels))


@pytest.mark.parametrize("labels", [np.zeros(6, dtype=np.int64), np.arange(6)])
def test_no_silhouette_of_one_cluster_or_of_single_slices(labels: np.ndarray) -> None:
    assert "silhouette" not in quality(np.eye(6), labels)


def test_silhouette_is_that_of_a_seeded_sample() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 2500)
    features = 3 * np.eye(3)[labels] + rng.normal(size=(2500, 3))
    one, again, other = (quality(features, labels, seed=seed)["silhouette"] for seed in (0, 0, 1))
    assert one == again != other
    assert one == pytest.approx(silhouette_score(features, labels), abs=0.02)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([40, 30, 30], None),
        ([60, 40], None),
        ([80, 15, 5], "one cluster holds 80 % of the slices"),
        ([40, *[1] * 60], "60 of 100 slices are clusters of their own"),
    ],
)
def test_sizes_that_leave_little_to_contrast(sizes: list[int], words: str | None) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    text = size_warning(quality(np.zeros((100, 2)), labels), len(sizes), 100)
    assert (text is None) == (words is None)
    assert words is None or words in str(text)
