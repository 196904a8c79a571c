from __future__ import annotations

import doctest

import numpy as np
import pytest
from scipy.cluster.hierarchy import is_valid_linkage, linkage

from ufc_monai.clustering import groups
from ufc_monai.clustering.clusterers import by_size, cut_tree
from ufc_monai.clustering.groups import tree_of_groups


@pytest.mark.parametrize("k", [1, 2, 5, 40])
def test_the_groups_are_a_cut_of_their_tree(k: int) -> None:
    generator = np.random.default_rng(0)
    features, labels = generator.normal(size=(40, 3)), by_size(np.arange(40) % k)
    tree = tree_of_groups(features, labels)
    assert is_valid_linkage(tree)
    assert (np.diff(tree[:, 2]) >= 0).all()
    assert np.array_equal(cut_tree(tree, k), labels)
    for number in range(1, 41):  # within groups above their number, of whole groups below it
        cut = cut_tree(tree, number)
        pairs = set(zip(cut.tolist(), labels.tolist(), strict=True))
        assert len(pairs) == max(number, k)


def test_of_one_group_it_is_ward_s_tree() -> None:
    features = np.random.default_rng(1).normal(size=(12, 3))
    np.testing.assert_allclose(tree_of_groups(features, np.zeros(12, dtype=int)), linkage(features, "ward"))


def test_examples() -> None:
    assert doctest.testmod(groups).failed == 0
