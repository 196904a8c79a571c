"""What a dense contrast would learn from: do the same cells of slices that are mates show the same structures?

    python benchmarks/cell_pairs.py DATA SPLIT.json PSEUDO_LABELS.json [--keys KEYS.json] [--grids 4,8,16]

The labelled training volumes of the fold that the pseudo-labels were made for, on the grid of 64 x 64 pixels of the
body's box that cpu.json trains on; validation and test volumes are not read. KEYS.json holds ``window``, ``labels`` and
``background_labels`` of other data than MMWHS. No network is trained: it tells what such a loss has to learn from.

Slices are mates by cluster, by position (less than 0.1 apart), by both, or by clusters dealt out anew among all slices,
the control. For each grid of cells: of a pixel of a structure in the anchor's cell and any pixel of the key's cell, how
often, in per cent, are the structures the same? Of other patients' keys in the same cell, for mates (positives) and
for the rest (negatives); and of keys of the anchor's own slice: in its own cell, in one of the four cells beside it,
and in any other cell, all of which such a loss takes for negatives.

Prints a table for each grid, and a RESULT line: positives / negatives.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.transforms import Compose
from numpy.typing import NDArray
from torch.nn import functional as F

from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.data import open_split
from ufc_monai.data.label_names import resolve_labels
from ufc_monai.transforms.chain import volume_chain
from ufc_monai.transforms.labels import RemapLabelsd

SIDE = 64
"""Of a slice in pixels, as in cpu.json."""
CLOSE = 0.1
"""Positions that differ by less are mates, as in pcl.json."""
Array = NDArray[Any]


def volumes(a: argparse.Namespace, labels: Mapping[str, Any], keys: Mapping[str, Any], guide: PseudoLabels) -> Any:
    """Of each labelled training volume: a map a structure, (D, structures, SIDE, SIDE), and its slices' clusters."""
    preprocessing = {
        "image_size": SIDE,
        "window": keys.get("window", [-250, 650]),
        "region": None,
        "standardise": False,
    }
    remap = RemapLabelsd("label", labels, keys.get("background_labels", []))
    read = Compose(volume_chain(preprocessing, 1, remap))
    for item in open_split(a.split, a.data, 0).labelled(guide.provenance["fold"]):
        label = read({key: item[key] for key in ("image", "label")})["label"].as_tensor()[0].movedim(-1, 0)
        name = Path(item["image"]).relative_to(a.data).as_posix()
        clusters = [guide.lookup(name, i) for i in range(len(label))]
        yield torch.stack([(label == c).float() for c in range(1, len(labels) + 1)], dim=1), clusters


def alike(cells: Array, chosen: Array) -> float:
    """How often, in per cent, pixels of one cell of chosen pairs (N, N) are of one structure; cells (N, C, G, G)."""
    flat = cells.reshape(len(cells), -1)
    return float(100 * (flat @ flat.T)[chosen].sum() / (flat.sum(axis=1) * chosen.sum(axis=1)).sum())


def beside(cells: Array) -> float:
    """The same of pairs of neighbouring cells of one slice."""
    pairs = [(cells[..., 1:, :], cells[..., :-1, :]), (cells[..., 1:], cells[..., :-1])]
    met = 2 * sum((one * two).sum() for one, two in pairs)
    return float(100 * met / sum(one.sum() + two.sum() for one, two in pairs))


def elsewhere(cells: Array) -> float:
    """The same of all other cells of one slice."""
    everywhere, own = (cells.sum(axis=(2, 3)) ** 2).sum(), (cells**2).sum()
    return float(100 * (everywhere - own) / (cells.sum() * (cells.shape[2] * cells.shape[3] - 1)))


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "split", "pseudo_labels"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--keys", type=Path)
    parser.add_argument("--grids", default="4,8,16")
    a = parser.parse_args()
    torch.set_num_threads(1)
    keys = json.loads(a.keys.read_text(encoding="utf-8")) if a.keys else {}
    found = [*volumes(a, resolve_labels(keys.get("labels"), a.data), keys, PseudoLabels.load(a.pseudo_labels))]
    maps = torch.cat([one for one, _ in found])
    patients = np.repeat(np.arange(len(found)), [len(clusters) for _, clusters in found])
    positions = np.concatenate([(np.arange(len(c)) + 0.5) / len(c) for _, c in found])
    clusters = np.concatenate([c for _, c in found])
    by_cluster = {"cluster": clusters, "dealt_anew": np.random.default_rng(0).permutation(clusters)}
    mates = {name: groups[:, None] == groups for name, groups in by_cluster.items()}
    mates["position"] = np.abs(positions[:, None] - positions) < CLOSE
    mates["both"] = mates["cluster"] & mates["position"]
    others, itself = patients[:, None] != patients, np.eye(len(patients), dtype=bool)
    result = []
    for grid in map(int, a.grids.split(",")):
        cells = F.adaptive_avg_pool2d(maps, grid).double().numpy()
        rows = {n: [alike(cells, m & others), alike(cells, ~m & others)] for n, m in mates.items()}
        table = pd.DataFrame(rows, index=["positives", "negatives"]).T
        own = [alike(cells, itself), beside(cells), elsewhere(cells)]
        print(f"{grid} x {grid} cells; own cell {own[0]:.1f}, those beside it {own[1]:.1f}, all others {own[2]:.1f}")
        print(table.round(1).to_string())
        result += [f"{name}_{grid}={row.positives:.1f}/{row.negatives:.1f}" for name, row in table.iterrows()]
    print("RESULT", *result)


if __name__ == "__main__":
    main()
