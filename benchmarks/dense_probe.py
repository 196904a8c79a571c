"""What pixel embeddings know of organs: a linear classifier on few labelled volumes, and places that are matched.

    python benchmarks/dense_probe.py DATA RUN [--keys KEYS.json] [--volumes 2] [--draws 0,1,2] [--out dense_probe.csv]

RUN is a folder of bundles whose stage 2 embeds pixels; KEYS.json holds ``labels`` and ``background_labels`` of other
data than MMWHS. Learned on the labelled training volumes of the run's fold, measured on its validation volumes; test
volumes are not looked at. Beside the run's network stand the same untrained, whose norms know the slices, and raw
patches of 9 x 9 pixels. Of each structure:

- Dice of a logistic regression on the embeddings, classes weighted by one over the root of their frequency, on the
  network's grid.
- Millimetres from the structure's centre to the place that is most like the centre (its nearest labelled pixel) in each
  labelled volume, as ``match`` finds it; and to the same relative place of the body's box.

Writes a row for each draw, features and structure, prints means over structures and a RESULT line.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.transforms import Compose
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional as F

from ufc_monai.base.bundles import CONTRASTIVE
from ufc_monai.data.label_names import resolve_labels
from ufc_monai.evaluation.pixels import PixelNetwork, most_similar
from ufc_monai.evaluation.published import Published
from ufc_monai.networks.build import build_network
from ufc_monai.transforms.chain import volume_chain
from ufc_monai.transforms.labels import IGNORE, RemapLabelsd

PATCH = 9
"""Side of a raw patch in pixels."""
PIXELS = 4000
"""Of each labelled volume and class, at most, that the classifier learns from."""
Embed = Callable[[Tensor], Tensor]


def raw_patches(image: Tensor) -> Tensor:
    """Patches (D, PATCH ** 2 * C, S, S) around each pixel of an image (C, S, S, D), their mean taken off."""
    slices = image.movedim(-1, 0)
    patches = F.unfold(slices, PATCH, padding=PATCH // 2)
    centred = patches - patches.mean(dim=1, keepdim=True) + 1e-6
    return F.normalize(centred, dim=1).view(len(slices), -1, *slices.shape[2:])


def untrained(network: PixelNetwork, images: Sequence[Tensor]) -> PixelNetwork:
    """The same architecture at random, whose batch norms have seen slices as the run's have."""
    torch.manual_seed(0)
    random = replace(network, network=build_network(network.record["dense"]).to(network.device).train())
    for image in images:
        random.embed(image)
    random.network.eval()
    return random


def classified(embed: Embed, labelled: Sequence[Any], held_out: Sequence[Any], classes: int) -> list[float | None]:
    """Mean Dice of each class over the volumes that hold it."""
    draw, rows, targets = np.random.default_rng(0), list[NDArray[Any]](), list[NDArray[Any]]()
    counts = np.zeros(classes + 1)
    for volume in labelled:
        features, label = flat(embed(volume["image"])), flat(volume["label"].movedim(-1, 0))[:, 0]
        for c in range(classes + 1):
            of_class = np.flatnonzero(label == c)
            counts[c] += len(of_class)
            chosen = draw.permutation(of_class)[:PIXELS]
            rows.append(features[chosen])
            targets.append(np.full(len(chosen), c))
    y = np.concatenate(targets)
    weights = (np.sqrt(counts) / np.maximum(np.bincount(y, minlength=classes + 1), 1))[y]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    model.fit(np.concatenate(rows), y, logisticregression__sample_weight=weights / weights.mean())
    dice: list[list[float]] = [[] for _ in range(classes)]
    for volume in held_out:
        label = flat(volume["label"].movedim(-1, 0))[:, 0]
        predicted = model.predict(flat(embed(volume["image"])))
        for c in np.unique(label[(label > 0) & (label != IGNORE)]):
            both = (predicted[label != IGNORE] == c, label[label != IGNORE] == c)
            dice[int(c) - 1].append(200 * (both[0] & both[1]).sum() / (both[0].sum() + both[1].sum()))
    return [float(np.mean(values)) if values else None for values in dice]


def flat(maps: Tensor) -> NDArray[Any]:
    """(D, E, S, S) as a row a pixel."""
    pixels: NDArray[Any] = maps.movedim(1, -1).flatten(0, 2).numpy()
    return pixels


def centres(volume: Mapping[str, Any], classes: int) -> dict[int, tuple[tuple[int, ...], NDArray[Any]]]:
    """Of each class there is: its pixel nearest to its centre on the grid, and the centre in millimetres."""
    found = {}
    for c in range(1, classes + 1):
        places = (volume["label"][0] == c).nonzero().double()
        if len(places):
            middle = places.mean(dim=0)
            nearest = places[(places - middle).norm(dim=1).argmin()]
            found[c] = tuple(map(int, nearest)), in_mm(volume, middle.numpy())
    return found


def in_mm(volume: Mapping[str, Any], place: Sequence[float] | NDArray[Any]) -> NDArray[Any]:
    """RAS millimetres of a place on the grid."""
    mm: NDArray[Any] = (volume["affine"] @ [*place, 1])[:3]
    return mm


def matched(embed: Embed | None, labelled: Sequence[Any], held_out: Sequence[Any], classes: int) -> list[float | None]:
    """Mean distance in millimetres of each class; without features, of the same relative place."""
    distances: list[list[float]] = [[] for _ in range(classes)]
    marked = [(v, centres(v, classes), embed(v["image"]) if embed else None) for v in labelled]
    for other in held_out:
        there, shape = centres(other, classes), other["image"].shape[1:]
        pixels = embed(other["image"]) if embed else None
        for volume, here, own in marked:
            for c in here.keys() & there.keys():
                x, y, z = here[c][0]
                if pixels is None or own is None:
                    share = (np.array([x, y, z]) + 0.5) / volume["image"].shape[1:]
                    place: Any = share * shape - 0.5
                else:
                    place, _ = most_similar(pixels, own[z, :, x, y])
                distances[c - 1].append(float(np.linalg.norm(in_mm(other, place) - there[c][1])))
    return [float(np.mean(values)) if values else None for values in distances]


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--keys", type=Path)
    parser.add_argument("--volumes", type=int, default=2)
    parser.add_argument("--draws", default="0,1,2")
    parser.add_argument("--out", type=Path, default=Path("dense_probe.csv"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    keys = json.loads(a.keys.read_text(encoding="utf-8")) if a.keys else {}
    labels = resolve_labels(keys.get("labels"), a.data)
    network = PixelNetwork.open(a.run, "cpu")
    split, fold = Published.open(a.run, CONTRASTIVE, "cpu").split(a.data), network.record["fold"]
    preprocessing = {**network.record["preprocessing"], "standardise": False}
    remap = RemapLabelsd("label", labels, keys.get("background_labels", []))
    read = Compose(volume_chain(preprocessing, network.record["dense"]["in_channels"], remap))

    def volumes(items: Sequence[Any]) -> list[dict[str, Any]]:
        found = (read({key: item[key] for key in ("image", "label")}) for item in items)
        return [
            {"image": v["image"].as_tensor(), "label": v["label"].as_tensor(), "affine": v["image"].affine.numpy()}
            for v in found
        ]

    held_out, rows = volumes(split.validation(fold)), list[dict[str, Any]]()
    for draw in map(int, a.draws.split(",")):
        labelled = volumes(split.labelled(fold, a.volumes, draw))
        random = untrained(network, [v["image"] for v in labelled])
        features = {"run": network.embed, "untrained": random.embed, "raw patches": raw_patches}
        for name, embed in {**features, "relative position": None}.items():
            mm = matched(embed, labelled, held_out, len(labels))
            dice = classified(embed, labelled, held_out, len(labels)) if embed else itertools.repeat(None)
            rows += [
                {"draw": draw, "features": name, "structure": s, "dice": d, "mm": m}
                for s, d, m in zip(labels, dice, mm, strict=False)
            ]
    table = pd.DataFrame(rows)
    table.to_csv(a.out, index=False, float_format="%.2f")
    means = table.groupby("features", sort=False)[["dice", "mm"]].mean().astype(float)
    print(means.round(1).to_string())
    print("RESULT", *(f"{n.replace(' ', '_')}={row.dice:.1f}/{row.mm:.1f}mm" for n, row in means.iterrows()))


if __name__ == "__main__":
    main()
