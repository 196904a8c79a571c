"""Ward's tree without a distance matrix: all reciprocal nearest neighbours merge at once, round by round.

Ward's linkage is reducible (Bruynooghe 1977): a union is to no third cluster nearer than the nearer of its two parts.
Two clusters that are each other's nearest neighbour therefore merge whatever the others do, and all such pairs, merged
at once, give the classical tree (Murtagh and Contreras 2012, section 5). Two things make it quick:

* Neighbours are looked for in blocks, by matrix products in float32 that are lower bounds of the distances: the squared
  norms in them are reduced by the largest rounding error that a product can have, that of TF32 or bf16 where the device
  multiplies quicker so. Exact float64 distances to the few smallest decide. Where none is below the bound of all the
  rest, float64 products follow, then longer lists.
* A search leaves a list of near clusters and a bound of all others. By reducibility the bound outlives merges, and that
  of a union follows from those of its parts, so that most clusters find their next neighbour in their list. Only where
  the list has nothing below the bound is there another search.

The products compute 1.1 to 2.5 n^2 distances in all for usual features; memory is O(n d).

"Distance" means the squared height here: 2 |x - y|^2 / (1 / n_x + 1 / n_y) for centroids x, y of n_x and n_y rows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ufc_monai.base.errors import InputError
from ufc_monai.base.machine import short_products

LIST = 10
"""Clusters in the list of each, itself among them. More save searches and cost exact distances."""
CHUNK = 64
"""Columns of a block that are first represented by the smallest of them."""
MARGIN = 1 - 1e-12
"""Share of a bound that a distance must be below: float64 rounds both."""


@torch.no_grad()
def ward_linkage(
    features: Tensor | NDArray[Any], *, group: dist.ProcessGroup | None = None, block_bytes: int | None = None
) -> NDArray[np.float64]:
    """The exact merge tree of Ward's method on Euclidean distances, as ``scipy.cluster.hierarchy.linkage`` gives it.

    Nothing in it is random, and neither blocks nor processes have a say in it. Equal rows merge first. Among equally
    near neighbours, the pair that has existed for more rounds wins, then the one whose indices have the smaller
    exclusive or (a cluster's index is its smallest row), by which many equal distances make many pairs at once.

    Args:
        features: (n, d), n at least 2, finite; the work is done on their device.
        group: processes that share the search, such as ``torch.distributed.group.WORLD``. All hold the same features
            and call; all get the tree. ``None`` works alone.
        block_bytes: memory beside the features; ``None`` takes 64 MB on a CPU, 4 GB on a GPU.

    Returns:
        SciPy's linkage matrix, (n - 1, 4).

    Raises:
        InputError: at less than two rows, or a feature that is not finite.

    Example:
        >>> ward_linkage(np.array([[0.0], [1.0], [10.0]])).round(2).tolist()
        [[0.0, 1.0, 1.0, 2.0], [2.0, 3.0, 10.97, 3.0]]
    """
    features = torch.as_tensor(features)
    if features.ndim != 2 or len(features) < 2:
        raise InputError(f"clustering needs the features of 2 slices or more, (n, d), got {tuple(features.shape)}.")
    if not features.isfinite().all():
        raise InputError("features hold NaN or infinite values: the VAE diverged. Train it with a lower learning_rate.")
    row, size, node, merges = _merge_equal(features)
    points, scale = _standardise(features[row.to(features.device)])
    forest = _Forest(points, size.to(points), group, block_bytes)
    bar = tqdm(total=len(features) - 1, desc="Ward", unit="merge", leave=False, disable=forest.quiet)
    with bar, short_products(points.device), torch.autocast(points.device.type, enabled=False):
        bar.update(len(merges))
        merges = np.concatenate([merges, *_merge_rounds(forest, node, len(features) + len(merges), bar)])
    merges[:, 2] *= scale
    return _in_scipys_order(merges)


def _merge_equal(features: Tensor) -> tuple[Tensor, Tensor, Tensor, NDArray[np.float64]]:
    """First row, number and tree node of each distinct row, in the order of the first rows, and the merges so far."""
    n = len(features)
    _, kind, count = (t.cpu() for t in torch.unique(features, dim=0, return_inverse=True, return_counts=True))
    row = kind.argsort(stable=True)
    start = count.cumsum(0) - count
    place = torch.arange(n) - start.repeat_interleave(count)
    # The second row of a kind merges with the first, and each further one with what the row before it has made.
    node = torch.where(place > 0, n - 1 + (place > 0).cumsum(0), row)
    later = place.nonzero()[:, 0]
    merges = torch.stack([node[later - 1], row[later], torch.zeros_like(later), place[later] + 1], dim=1)
    order = row[start].argsort()
    return row[start][order], count[order], node[start + count - 1][order], merges.double().numpy()


def _standardise(points: Tensor) -> tuple[Tensor, float]:
    """Divided by a power of two, so that squares do not overflow, and centred, so that products cancel less.

    The centre is a median of a thousand rows: unlike the mean's, its digits do not drown small values beside outliers.
    """
    exponent = math.frexp(float(points.abs().max()))[1] if points.numel() else 0
    scale = math.ldexp(1.0, min(max(exponent, -1000), 1000))
    points = points.double() / scale
    some = points[:: len(points) // 1000 + 1].sort(dim=0).values
    points -= some[len(some) // 2]
    return points, scale


def _merge_rounds(forest: _Forest, node: Tensor, made: int, bar: tqdm) -> list[NDArray[np.float64]]:
    """The merges of each round; ``node`` holds the tree's number of each cluster, ``made`` is the next one."""
    height = torch.zeros(len(node), dtype=torch.float64)
    rounds = []
    while forest.alive.sum() > 1:
        forest.search()
        a, b, distance, size = (t.cpu() for t in forest.merge())
        # Rounding must not put a union below its parts.
        height[a] = torch.stack([distance.sqrt(), height[a], height[b]]).amax(dim=0)
        rounds.append(torch.stack([node[a], node[b], height[a], size], dim=1).numpy())
        node[a] = torch.arange(made, made + len(a))
        made += len(a)
        bar.update(len(a))
    return rounds


def _in_scipys_order(merges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sorted by height, numbered in that order, and in each row the smaller number first."""
    n = len(merges) + 1
    order = np.argsort(merges[:, 2], kind="stable")
    number = np.arange(2 * n - 1)
    number[n + order] = np.arange(n, 2 * n - 1)
    tree = merges[order]
    tree[:, :2] = np.sort(number[tree[:, :2].astype(np.int64)], axis=1)
    return tree


class _Forest:
    """The clusters of a round, each at the index of its first row.

    Attributes:
        centroid: (n, d). Here and below, only the indices that are ``alive`` mean something.
        size: how many rows each has, (n,).
        nearest: the nearest neighbour of each, where ``decided``, and the ``distance`` to it.
        near: (n, LIST), some clusters near to each when it was last looked at; ``now`` holds what they are part of.
        bound: no cluster without any of those is nearer.
        born: the round that made it.
    """

    def __init__(self, points: Tensor, size: Tensor, group: dist.ProcessGroup | None, block_bytes: int | None) -> None:
        n, device = len(points), points.device
        self.centroid, self.size, self.group = points, size, group
        self.block_bytes = block_bytes or (2**26 if device.type == "cpu" else 2**32)
        self.quiet = True if group is not None and dist.get_rank(group) else None
        self.alive = torch.ones(n, dtype=torch.bool, device=device)
        self.decided = torch.zeros_like(self.alive)
        self.now = torch.arange(n, device=device)
        self.nearest, self.near = self.now.clone(), self.now[:, None].repeat(1, LIST)
        self.distance, self.bound = torch.zeros_like(size), torch.zeros_like(size)
        self.born, self.round = torch.zeros_like(self.now), 0
        # a GPU's memory is pooled by PyTorch, so that nothing has to be kept there
        self.desk = torch.empty(self.block_bytes if device.type == "cpu" else 0, dtype=torch.uint8, device=device)

    def _room(self, place: int, dtype: torch.dtype, *shape: int) -> Tensor:
        """Half of the desk (``place`` 0 or 1): what is allocated anew for each block leaves holes in the memory."""
        half = len(self.desk) // 16 * 8
        wanted = math.prod(shape) * dtype.itemsize
        if wanted > half:
            return torch.empty(shape, dtype=dtype, device=self.desk.device)
        return self.desk[place * half : place * half + wanted].view(dtype).view(shape)

    def pairs(self) -> tuple[Tensor, Tensor]:
        """All reciprocal nearest neighbours, the smaller index first."""
        cluster = self.alive.nonzero()[:, 0]
        other = self.nearest[cluster]
        chosen = (cluster < other) & (self.nearest[other] == cluster)
        if not chosen.any():  # rounding can close a ring of neighbours at equal distances
            chosen[self.distance[cluster].argmin()] = True
        a, b = cluster[chosen], other[chosen]
        return torch.minimum(a, b), torch.maximum(a, b)

    def merge(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Merge each pair into its first; their indices, distances and the sizes of the unions."""
        a, b = self.pairs()
        distance, bound = self.distance[a], self._bound_of_union(a, b)
        n_a, n_b = self.size[a, None], self.size[b, None]
        self.centroid[a] = (n_a * self.centroid[a] + n_b * self.centroid[b]) / (n_a + n_b)
        self.size[a] += self.size[b]
        self.round += 1
        self.born[a], self.alive[b], self.now[b] = self.round, False, a
        self.now = self.now[self.now]
        merged = torch.zeros_like(self.alive)
        merged[a] = merged[b] = True
        widowed = (self.alive & ~merged & merged[self.nearest]).nonzero()[:, 0]
        self._consider(widowed, self.now[self.near[widowed]], self.bound[widowed])
        self._consider(a, self.now[torch.cat([self.near[a], self.near[b]], dim=1)], bound)
        return a, b, distance, self.size[a]

    def _bound_of_union(self, a: Tensor, b: Tensor) -> Tensor:
        """The bounds of ``a`` and ``b`` in the formula of Lance and Williams for the distance of their union to c.

        It grows with the size of c, for no bound is below the distance of a and b. So the least size gives a bound.
        """
        n_a, n_b, n_c = self.size[a], self.size[b], self.size[self.alive].min()
        bound_a, bound_b = (torch.maximum(self.bound[i], self.distance[i]) for i in (a, b))
        return ((n_a + n_c) * bound_a + (n_b + n_c) * bound_b - n_c * self.distance[a]) / (n_a + n_b + n_c)

    def search(self) -> None:
        """Find the neighbours that the lists do not decide."""
        active = self.alive.nonzero()[:, 0]
        rows = active[~self.decided[active]]
        dtype, count = torch.float32, LIST
        while len(rows) and 4 * count < len(active):
            for some in torch.split(rows, max(1, LIST * len(self.now) // count)):
                self._consider(some, *self._shared_candidates(some, active, count, dtype))
            rows = rows[~self.decided[rows]]
            dtype, count = torch.float64, count if dtype == torch.float32 else 8 * count
        for some in torch.split(rows, max(1, self.block_bytes // (64 * len(active)))):
            self._consider(some, active.expand(len(some), -1), self.bound.new_full((len(some),), math.inf))

    def _shared_candidates(self, rows: Tensor, active: Tensor, count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """A share of ``_candidates`` from each process of the group."""
        if self.group is None:
            return self._candidates(rows, active, count, dtype)
        world, rank = dist.get_world_size(self.group), dist.get_rank(self.group)
        share = math.ceil(len(rows) / world)
        mine = rows[torch.arange(rank * share, (rank + 1) * share, device=rows.device) % len(rows)]
        found = []
        for part in self._candidates(mine, active, count, dtype):
            parts = [torch.empty_like(part) for _ in range(world)]
            dist.all_gather(parts, part, group=self.group)
            found.append(torch.cat(parts)[: len(rows)])
        return found[0], found[1]

    def _candidates(self, rows: Tensor, active: Tensor, count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """``count`` clusters of ``active`` that seem near to each of ``rows``, and a bound for the others.

        (-2 x, 1, |x|^2) times (y, |y|^2, 1) is |x - y|^2 to within ``error`` (|x|^2 + |y|^2): Higham 2002, eq. 3.5,
        with room for what else is rounded. So norms that are smaller by that share make it a lower bound.
        """
        points, info = self.centroid[active], torch.finfo(dtype)
        error = 2 * (points.shape[1] + 8) * info.eps + (4 * _input_rounding() if dtype == torch.float32 else 0)
        norm = torch.linalg.vector_norm(points, dim=1).square() * (1 - error) - (points.shape[1] + 8) * info.tiny
        right = torch.column_stack([t.to(dtype) for t in (points, norm, torch.ones_like(norm))])
        del points
        half = (0.5 / self.size[active]).to(dtype)
        single = bool((half == 0.5).all())
        found = []
        step = max(1, self.block_bytes // (3 * dtype.itemsize * len(active)))
        blocks = torch.split(torch.searchsorted(active, rows), step)
        for block in tqdm(blocks, "neighbours", unit="block", leave=False, delay=5, disable=self.quiet):
            left = torch.column_stack([-2 * right[block, :-2], right[block, -1], right[block, -2]])
            lower = _product(left, right, self._room(0, dtype, len(block), len(right)))
            if not single:
                weight = self._room(1, dtype, len(block), len(right))
                lower /= torch.add(half[block, None], half, out=weight)
            value, place = _smallest(lower, count + 1)
            found.append((active[place[:, :count]], value[:, count].double()))
        return torch.cat([f[0] for f in found]), torch.cat([f[1] for f in found])

    def _consider(self, rows: Tensor, candidates: Tensor, bound: Tensor) -> None:
        """Decide ``rows`` whose nearest candidate is below ``bound``, which no other cluster is."""
        step = max(1, self.block_bytes // (16 * candidates.shape[1] * (self.centroid.shape[1] + 8)))
        for i in range(0, len(rows), step):
            self._decide(rows[i : i + step], candidates[i : i + step].sort(dim=1).values, bound[i : i + step])

    def _decide(self, rows: Tensor, candidates: Tensor, bound: Tensor) -> None:
        """A chunk of ``_consider``; the candidates of a row are sorted, some more than once."""
        own = rows[:, None]
        shape = (*candidates.shape, self.centroid.shape[1])
        difference = self._room(0, torch.float64, candidates.numel(), shape[2])
        difference = torch.index_select(self.centroid, 0, candidates.flatten(), out=difference).view(shape)
        difference -= self.centroid[own]
        distance = 2 * difference.square_().sum(dim=2) / (1 / self.size[candidates] + 1 / self.size[own])
        distance[candidates == own] = math.inf
        distance[:, 1:][candidates[:, 1:] == candidates[:, :-1]] = math.inf
        least = distance.amin(dim=1, keepdim=True)
        rule = (torch.maximum(self.born[candidates], self.born[own]) << 32) + (candidates ^ own)
        first = rule.where(distance == least, torch.iinfo(torch.int64).max).argmin(dim=1, keepdim=True)
        self.nearest[rows] = candidates.gather(1, first)[:, 0]
        self.distance[rows] = least[:, 0]
        self.decided[rows] = least[:, 0] < bound * MARGIN
        value, place = distance.topk(min(LIST + 1, distance.shape[1]), largest=False)
        near = candidates.gather(1, place[:, :LIST])
        self.near[rows] = torch.cat([near, own.expand(-1, LIST)], dim=1)[:, :LIST]
        self.bound[rows] = torch.minimum(bound, value[:, LIST]) if value.shape[1] > LIST else bound


def _smallest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The smallest values of each row and their places; they are in the chunks whose smallest values are smallest."""
    width, chunks = values.shape[1], values.shape[1] // CHUNK
    if chunks < 2 * count:
        return values.topk(count, largest=False)
    least = values[:, : chunks * CHUNK].view(-1, chunks, CHUNK).amin(dim=2)
    best = least.topk(count, largest=False).indices
    place = (best[:, :, None] * CHUNK + torch.arange(CHUNK, device=values.device)).flatten(1)
    rest = torch.arange(chunks * CHUNK, width, device=values.device).expand(len(values), -1)
    place = torch.cat([place, rest], dim=1)
    value, index = values.gather(1, place).topk(count, largest=False)
    return value, place.gather(1, index)


def _product(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    return torch.mm(left, right.T, out=out)


def _input_rounding() -> float:
    """To what share a float32 product may round its inputs, by PyTorch's setting."""
    try:
        return {"highest": 0.0, "high": 2.0**-10}.get(torch.get_float32_matmul_precision(), 2.0**-8)
    except RuntimeError:  # set for single backends
        return 2.0**-8
