"""How a run would see each structure: what of it the window cuts off, and how large it is on the network's grid."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from monai.transforms import Compose, Orientationd
from numpy.typing import NDArray
from scipy import ndimage

from ufc_monai.base.bundles import CONTRASTIVE, UNET
from ufc_monai.base.sample import spread
from ufc_monai.data.case import Case
from ufc_monai.data.store import read_together, stored_bytes
from ufc_monai.report.page import aligned, counted
from ufc_monai.transforms.crop import BodyCrop
from ufc_monai.transforms.volume import Grid, LoadVolumed

MOST_READ = 24
"""Labelled volumes that are looked at, evenly spread."""
MOST_OUTSIDE = 0.1
"""The share of a structure outside of the window that is worth a word."""
LEAST_PIXELS = 3.0
"""A structure that is narrower at its widest is hard to see for a network."""
STEP = 16
"""A UNet halves a slice's side four times."""


@dataclass(frozen=True)
class Extent:
    """A structure in one volume.

    Attributes:
        voxels: how many.
        outside: the share of them whose values lie outside of the window.
        low: 1st percentile of their values.
        high: 99th percentile.
        millimetres: width at the widest place of its largest slice: the diameter of the largest disc within.
        pixels: the same on the network's grid.
        finest: side of a slice, in pixels, on which the network would see what the file holds.
    """

    voxels: int
    outside: float
    low: float
    high: float
    millimetres: float
    pixels: float
    finest: int


def measure_structures(
    dataset_dir: Any, cases: Sequence[Case], labels: Mapping[str, int], config: Mapping[str, Any]
) -> dict[str, list[Extent]]:
    """Measure the structures of some of the labelled volumes, those evenly spread.

    Args:
        dataset_dir: folder of the data set.
        cases: labelled volumes whose files are sound.
        labels: names and ids of the structures.
        config: of stage 3: ``window``, ``image_size``, ``region``, ``channels``.

    Returns:
        By name, of each volume that holds the structure.
    """
    items = [cases[i].item(dataset_dir) for i in spread(len(cases), MOST_READ)]
    keys, region = ["image", "label"], config["region"]
    load = Compose(
        [
            LoadVolumed(keys, channels=config["channels"]),
            Orientationd(keys, axcodes="RAS", labels=None),
        ]
    )
    crop = BodyCrop(None if isinstance(region, str) else region)
    sizes = [stored_bytes(item["image"], True) for item in items]

    def measure(k: int) -> dict[str, Extent]:
        volume = load(dict(items[k]))
        image, label = (np.asarray(volume[key]) for key in keys)
        spacing = Grid.of(volume["image"].affine, label.shape[1:]).spacing[0]
        start, end = crop.box_around(image, [label])
        inside = tuple(slice(max(a, 0), max(b, 0)) for a, b in zip(start, end, strict=True))
        image, side = image[:, *inside], int(end[0] - start[0])
        found = {name: label[0][inside] == i for name, i in labels.items()}
        return {name: _extent(image, mask, side, spacing, config) for name, mask in found.items() if mask.any()}

    volumes = read_together(measure, sizes, "structures", leave=False)
    return {name: [volume[name] for volume in volumes if name in volume] for name in labels}


def _extent(
    image: NDArray[Any], mask: NDArray[np.bool_], side: int, spacing: float, config: Mapping[str, Any]
) -> Extent:
    """Measure one structure; image (C, H, W, D), mask (H, W, D), both cropped to the body, whose box is so wide."""
    values = image[:, mask]
    low, high = config["window"]
    darkest, brightest = np.percentile(values, [1, 99]).tolist()
    largest = mask[..., mask.sum(axis=(0, 1)).argmax()]
    width = 2 * float(ndimage.distance_transform_edt(np.pad(largest, 1)).max()) - 1
    return Extent(
        int(mask.sum()),
        float(((values < low) | (values > high)).any(axis=0).mean()),
        darkest,
        brightest,
        millimetres=width * spacing,
        pixels=width * config["image_size"] / side,
        finest=side,
    )


def structure_table(found: Mapping[str, Sequence[Extent]], config: Mapping[str, Any]) -> list[str]:
    """One row a structure: the share outside of the window, millimetres and network pixels across."""
    size, n = config["image_size"], max(map(len, found.values()), default=0)
    rows = [
        (name, f"{100 * _outside(e):.0f} %", f"{_median(e, 'millimetres'):.1f}", f"{_median(e, 'pixels'):.1f}")
        for name, e in found.items()
        if e
    ]
    title = f"structures as the network sees them: window {_shown(config['window'])}, {size} x {size} pixels a slice"
    table = aligned([("structure", "outside of the window", "mm across", "pixels across"), *rows]).splitlines()
    return [f"{title} (medians of {counted(n, 'labelled volume')})", *table] if rows else []


def structure_remarks(found: Mapping[str, Sequence[Extent]], config: Mapping[str, Any]) -> list[str]:
    """What of the structures the network will not see, and which window and ``image_size`` would hold it."""
    lines = []
    (low, high), size = config["window"], config["image_size"]
    if cut := {name: e for name, e in found.items() if e and _outside(e) > MOST_OUTSIDE}:
        ends = [(_median(e, "low"), _median(e, "high")) for e in cut.values()]
        held = [
            min(low, *(np.floor(a / 10) * 10 for a, _ in ends)),
            max(high, *(np.ceil(b / 10) * 10 for _, b in ends)),
        ]
        shares = ", ".join(f"{name} {100 * _outside(e):.0f} %" for name, e in cut.items())
        lines += [f"- outside of the window {_shown(config['window'])}, where values are cut off: {shares}"]
        lines += [f'    A window that holds them: --window "{_shown(held)}"']
    if small := {name: e for name, e in found.items() if e and _median(e, "pixels") < LEAST_PIXELS}:
        wanted = max(size * LEAST_PIXELS / _median(e, "pixels") for e in small.values())
        finest = statistics.median(e.finest for extents in small.values() for e in extents)
        side = STEP * int(np.ceil(min(wanted, finest) / STEP))
        shown = ", ".join(f"{name} {_median(e, 'pixels'):.1f}" for name, e in small.items())
        lines += [f"- pixels across, of {size} x {size}, hardly enough to be seen: {shown}"]
        if side > size:
            keys = " ".join(f"--set {bundle}.image_size={side}" for bundle in (CONTRASTIVE, UNET))
            what, times = "more of them" if wanted > finest else f"{LEAST_PIXELS:g} or more", (side / size) ** 2
            lines += [f"    For {what} (a slice takes about {times:.0f} times as long): {keys}"]
        else:
            lines += [
                "    The scans show no more; a --set ufc_unet_segmentation.region may leave out what lies around."
            ]
    return lines


def _outside(extents: Sequence[Extent]) -> float:
    return sum(e.outside * e.voxels for e in extents) / sum(e.voxels for e in extents)


def _median(extents: Sequence[Extent], name: str) -> float:
    return float(statistics.median(getattr(e, name) for e in extents))


def _shown(window: Sequence[float]) -> str:
    return "[{:g},{:g}]".format(*window)
