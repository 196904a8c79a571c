"""Draw what a MONAI Label server answered for one scan: docs/monai_label.png.

    python benchmarks/served_picture.py SCAN MASK CLUSTERS docs/monai_label.png [--bundle bundles/ufc_unet_segmentation]

SCAN is a scan that the server has, MASK and CLUSTERS are its answers of ``ufc_unet_segmentation`` and
``ufc_feature_vae`` for it, as docs/monai_label.md asks for them. ``--bundle``: which one was served, for the names.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel
import numpy as np
import torch
from matplotlib.patches import Patch

from ufc_monai.artifacts.served import named_classes
from ufc_monai.base.bundles import UNET
from ufc_monai.report.drawing import class_colours
from ufc_monai.transforms.labels import RemapLabels

BUNDLE = Path(__file__).parents[1] / "bundles" / UNET
WINDOW = (-250.0, 650.0)


def read(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Voxels along right, front and head, and their spacing in mm."""
    volume = nibabel.as_closest_canonical(nibabel.load(path))
    return np.asarray(volume.dataobj), volume.header.get_zooms()[:3]


def show(
    axes: plt.Axes, image: np.ndarray, classes: np.ndarray, aspect: float, title: str, colours: np.ndarray
) -> None:
    """One plane, up is up and the patient's right is left, with its classes over it."""
    picture = np.clip((image.T - WINDOW[0]) / (WINDOW[1] - WINDOW[0]), 0, 1)[::-1, ::-1, None].repeat(3, axis=2)
    painted = classes.T[::-1, ::-1].astype(int)
    colours = np.vstack([np.zeros(3), colours])
    opacity = np.where(painted > 0, 0.45, 0.0)[..., None]
    axes.imshow((1 - opacity) * picture + opacity * colours[painted], aspect=aspect, interpolation="nearest")
    axes.set_title(title, color="white", fontsize=11)
    axes.set_axis_off()


def number_bands(axes: plt.Axes, clusters: np.ndarray) -> None:
    """Write each band's cluster, the mask's value minus 1, beside it."""
    values = clusters.max(axis=0).astype(int)[::-1]
    starts = np.flatnonzero(np.diff(values, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(values)], strict=True):
        y = (start + end - 1) / 2
        axes.text(len(clusters), y, f"{values[start] - 1}", color="white", fontsize=8, va="center")


def main() -> None:
    """Axial and coronal plane of the mask, coronal plane of the clusters."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("scan", "mask", "clusters", "picture"):
        parser.add_argument(name, metavar=name.upper())
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    options = parser.parse_args()
    (scan, (x, y, z)), (mask, _), (clusters, _) = (read(p) for p in (options.scan, options.mask, options.clusters))
    named = named_classes(options.bundle)
    mask = RemapLabels(named)(torch.as_tensor(mask.astype(int))).numpy()
    middle, height = ((mask > 0).sum(axis=axes).argmax() for axes in ((0, 2), (0, 1)))
    names = list(named)
    structures, bands = class_colours(len(names)), plt.get_cmap("twilight")(np.linspace(0, 0.9, int(clusters.max())))
    figure, places = plt.subplots(1, 3, figsize=(12, 4.6), facecolor="black", layout="constrained")
    show(places[0], scan[:, :, height], mask[:, :, height], y / x, "ufc_unet_segmentation, axial", structures)
    show(places[1], scan[:, middle], mask[:, middle], z / x, "the same, coronal", structures)
    show(places[2], scan[:, middle], clusters[:, middle], z / x, "ufc_feature_vae: clusters", bands[:, :3])
    number_bands(places[2], clusters[:, middle])
    patches = [Patch(color=tuple(c), label=n) for n, c in zip(names, structures, strict=True)]
    figure.legend(handles=patches, loc="outside lower center", ncols=4, frameon=False, labelcolor="white", fontsize=10)
    figure.savefig(options.picture, dpi=90)


if __name__ == "__main__":
    main()
