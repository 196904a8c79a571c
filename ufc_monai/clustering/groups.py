"""A merge tree of given groups, so that they are cut like any other clusters."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ufc_monai.clustering.reciprocal import ward_linkage
from ufc_monai.clustering.space import centroids


def tree_of_groups(features: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The tree whose cut into as many clusters as there are groups gives the groups.

    Ward's trees of the groups' members come first; Ward's tree of their centres, above all of these, joins them.

    Args:
        features: (n, d).
        labels: the group of each, 0 to k - 1, none of them empty, (n,).

    Returns:
        SciPy's linkage matrix, (n - 1, 4).

    Example:
        >>> tree_of_groups(np.array([[0.0], [9.0], [1.0], [9.0]]), np.array([0, 1, 0, 0])).tolist()
        [[0.0, 2.0, 1.0, 2.0], [3.0, 4.0, 9.814954576223638, 3.0], [1.0, 5.0, 15.481621242890304, 4.0]]
    """
    n, groups = len(features), [np.flatnonzero(labels == c) for c in range(labels.max() + 1)]
    trees = [_ward(features[members]) for members in groups]
    order = sorted((float(row[2]), c, i) for c, tree in enumerate(trees) for i, row in enumerate(tree))
    node = {(c, i): int(member) for c, members in enumerate(groups) for i, member in enumerate(members)}
    node |= {(c, len(groups[c]) + i): n + place for place, (_, c, i) in enumerate(order)}
    rows = [(node[c, int(trees[c][i, 0])], node[c, int(trees[c][i, 1])], height) for height, c, i in order]
    above = [node[c, 2 * len(members) - 2] for c, members in enumerate(groups)] + [*range(n + len(rows), 2 * n - 1)]
    highest = order[-1][0] if order else 0.0
    rows += [(above[int(a)], above[int(b)], highest + height) for a, b, height, _ in _ward(centroids(features, labels))]
    sizes = [1] * n
    for a, b, _ in rows:
        sizes.append(sizes[a] + sizes[b])
    ends = [sorted(row[:2]) for row in rows]
    return np.column_stack([ends, [height for *_, height in rows], sizes[n:]]).astype(np.float64)


def _ward(features: NDArray[Any]) -> NDArray[np.float64]:
    return ward_linkage(torch.as_tensor(features)) if len(features) > 1 else np.empty((0, 4))
