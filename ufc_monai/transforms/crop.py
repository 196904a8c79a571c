"""Where to crop a CT volume in-plane: to the body, and, if wanted, to a region of interest within the body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.utils import optional_import
from numpy.typing import NDArray
from torch import Tensor

from ufc_monai.base.errors import InputError
from ufc_monai.transforms.labels import IGNORE

ndimage, _ = optional_import("scipy.ndimage")

THRESHOLD = -90.0
"""What is denser is body, in Hounsfield units."""

MARGIN = 2
"""Pixels added around the body."""

WORN_AWAY = 2
"""Pixels taken from each side before the body is looked for: couch and cables are thinner than twice that."""

MAX_BODY_LOSS = 0.05
"""The share of the body's outline that a crop may lose before the whole slice is taken instead."""

DENSE_SHARE = 0.2
"""The share of slices in which a column of voxels has to be dense to belong to the body's outline."""

Box = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Start and end (exclusive) of a box in voxels, three numbers each; it may reach beyond the image."""


class BodyCrop:
    """Find one square box around the patient's body for all slices of a CT volume.

    The body is found by intensity alone, never from labels: the largest piece of what is denser than
    :data:`THRESHOLD`, seen along the body's axis, once the couch and cables are worn away. The box is square, so that
    resizing keeps the shape of organs, and may reach beyond the image. The whole slice is taken where no body is found
    or where the box would cut some of it (legs, or arms beside the body), and where there is but one slice: that is a
    picture or a radiograph, where intensity tells nothing. The box of a picture in colours is not even square, since
    bars beside it would tell cameras apart.

    Args:
        region: region of interest as fractions (x start, x end, y start, y end) of the body's square box, e.g. from
            :func:`label_region`; ``None`` keeps the body.

    Raises:
        InputError: if ``region`` is not made of four rising fractions.
    """

    def __init__(self, region: Sequence[float] | None = None) -> None:
        if region is not None and not (len(region) == 4 and region[0] < region[1] and region[2] < region[3]):
            raise InputError(
                f"region must be null or 4 fractions [x start, x end, y start, y end] of the body's box, got {region}."
            )
        self.region = region

    def compute_bounding_box(self, img: Any) -> Box:
        """The box to crop to.

        Args:
            img: (1, H, W, D) in Hounsfield units, or (3, H, W, 1).
        """
        if self.region is not None:
            return _part_of(self.body_box(img), self.region)
        if len(img) > 1:
            return np.zeros(3, dtype=np.int64), np.array(img.shape[1:])
        return self.body_box(img)

    def box_around(self, image: Any, labels: Sequence[Any]) -> Box:
        """The box of an image, or its whole slices where that would cut a labelled voxel that no region asked to cut.

        Args:
            image: as in :meth:`compute_bounding_box`; a tensor or an array, like all that follow.
            labels: of its shape, (1, H, W, D).
        """
        start, end = self.compute_bounding_box(image)
        if self.region is None and any(_cuts(start, end, np.asarray(label)) for label in labels):
            return self.whole_slice(image)
        return start, end

    def body_box(self, img: Any) -> Box:
        """The square box around the body, or around the whole slice."""
        if img.shape[-1] == 1:
            return self.whole_slice(img)
        volume = np.asarray(img[0])
        shape = np.array(volume.shape)
        dense = (volume > THRESHOLD).mean(axis=2) > DENSE_SHARE
        # holes are filled last: a hole between couch and body would tie the two together
        opened = ndimage.binary_opening(dense, iterations=WORN_AWAY)
        pieces, n = ndimage.label(ndimage.binary_fill_holes(opened))
        if n == 0:
            return self.whole_slice(img)
        sizes = np.bincount(pieces.ravel())[1:]
        x, y = ndimage.find_objects(pieces)[int(np.argmax(sizes))]
        if (pieces[x, y] > 0).sum() < (1 - MAX_BODY_LOSS) * sizes.sum():
            return self.whole_slice(img)
        start = np.maximum([x.start - MARGIN, y.start - MARGIN, 0], 0)
        end = np.minimum([x.stop + MARGIN, y.stop + MARGIN, shape[2]], shape)
        return _squared(start, end, shape)

    def whole_slice(self, img: Any) -> Box:
        """The smallest square box that holds whole slices."""
        shape = np.array(img.shape[1:])
        return _squared(np.zeros(3, dtype=np.int64), shape, shape)


def label_region(images: Sequence[Tensor], labels: Sequence[Tensor], margin: float = 0.1) -> list[float]:
    """The region of interest that holds every labelled voxel of some volumes, for ``BodyCrop(region=...)``.

    Hand in the volumes of the current label budget only: those of other patients would leak their labels.

    Args:
        images: volumes (1, H, W, D) in Hounsfield units, RAS orientation.
        labels: their labels, 0 is background.
        margin: added on each side, as a share of the body's box.

    Raises:
        InputError: if no volume holds a labelled voxel.

    Returns:
        Fractions (x start, x end, y start, y end) of the body's square box, rounded to three places.
    """
    corners = []
    for image, label in zip(images, labels, strict=True):
        start, end = BodyCrop().body_box(image)
        seen = np.argwhere(np.asarray(label[0]).any(axis=2))
        if len(seen):
            corners.append(np.concatenate([seen.min(0) - start[:2], seen.max(0) + 1 - start[:2]]) / (end - start)[0])
    if not corners:
        raise InputError("region: none of the labelled volumes of this budget holds a labelled voxel.")
    low, high = np.min(corners, axis=0)[:2] - margin, np.max(corners, axis=0)[2:] + margin
    return [round(float(f), 3) for f in (low[0], high[0], low[1], high[1])]


def _squared(start: NDArray[np.int64], end: NDArray[np.int64], shape: NDArray[np.int64]) -> Box:
    """Grow the shorter in-plane side to the longer one, around its centre, inside the image where that fits."""
    side = (end - start)[:2].max()
    room = shape[:2] - side
    first = np.where(room >= 0, np.clip(((start + end)[:2] - side) // 2, 0, room), room // 2)
    return np.append(first, start[2]), np.append(first + side, end[2])


def _part_of(box: Box, region: Sequence[float]) -> Box:
    """The square box around a region that is given as fractions of a box."""
    start, end = box
    x0, x1, y0, y1 = (round(fraction * (end - start)[0]) for fraction in region)
    low, high = start[:2] + np.array([[x0, y0], [x1, y1]])
    half, centre = ((high - low).max() + 1) // 2, (low + high) // 2
    return np.append(centre - half, start[2]), np.append(centre + half, end[2])


def _cuts(start: NDArray[np.int64], end: NDArray[np.int64], label: NDArray[Any]) -> bool:
    """Whether a labelled voxel lies outside of the box."""
    labelled = (label > 0) & (label != IGNORE)
    low = np.maximum(start, 0)
    return bool(labelled.sum() > labelled[:, low[0] : end[0], low[1] : end[1]].sum())
