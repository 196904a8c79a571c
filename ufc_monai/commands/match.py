"""``match``: the place in other scans that is most like a marked one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import write_json
from ufc_monai.evaluation.pixels import PixelNetwork, Scan, most_similar
from ufc_monai.report.drawing import save_rows, shortened
from ufc_monai.training.compute import device_of

logger = logging.getLogger(__name__)

ARM = 4
"""Length of a mark's arms, in pixels of the network's grid."""
MARK = (1.0, 0.62, 0.0)
"""Its colour."""


def match(
    weights: Path,
    image: Path,
    point: Sequence[float],
    others: Sequence[Path],
    *,
    mm: bool = False,
    output: Path = Path("match"),
    keys: Mapping[str, Any] | None = None,
) -> Path:
    """Find a marked place of one scan in others, by the pixel embeddings of stage 2.

    Args:
        weights: folder of a run whose stage 2 embeds pixels.
        image: the scan with the mark.
        point: voxel indices of its file, x, y and z; of a picture x and y.
        others: the scans to look in.
        mm: the point is in RAS millimetres.
        output: folder of ``match.json`` and ``match.png``.
        keys: ``threads`` and ``device``.

    Returns:
        ``match.json``: the mark, and for each other scan the voxel, its millimetres and the cosine similarity.

    Raises:
        InputError: if the run embeds no pixels, the point is outside, or a scan is empty or cannot be read.
    """
    if missing := [path for path in (image, *others) if not path.exists()]:
        raise InputError(f"there is no file {missing[0]}.")
    network = PixelNetwork.open(weights, device_of(keys or {}))
    scan = network.scan(image)
    voxel = _voxel(scan, point, mm)
    place = scan.place_of(voxel)
    wanted = network.at(scan, place)
    x, y, z = (min(max(round(p), 0), n - 1) for p, n in zip(place, scan.image.shape[1:], strict=True))
    pictures = [_pictures(scan, (x, y, z), network.embed(scan.image[..., z : z + 1])[0], wanted)]
    found = []
    for path in others:
        other = network.scan(path)
        pixels = network.embed(other.image)
        at, similarity = most_similar(pixels, wanted)
        there = other.voxel_at(at)
        found.append({"image": str(path), **_about(other, there), "similarity": round(float(similarity[at]), 4)})
        pictures.append(_pictures(other, at, pixels[at[2]], wanted))
        logger.info("%s: voxel %s, similarity %.3f", path, ",".join(map(str, there)), found[-1]["similarity"])
    output.mkdir(parents=True, exist_ok=True)
    titles = [shortened(path.name, 16) for path in (image, *others)]
    rows = [np.stack(row) for row in zip(*pictures, strict=True)]
    save_rows(output / "match.png", rows, ["place", "similarity"], titles)
    write_json(
        output / "match.json", {"weights": str(weights), "image": str(image), **_about(scan, voxel), "found": found}
    )
    logger.info("%s, with match.png beside it", output / "match.json")
    return output / "match.json"


def _voxel(scan: Scan, point: Sequence[float], mm: bool) -> list[float]:
    """The three voxel indices of a marked point."""
    axes = 2 if scan.shape[2] == 1 else 3
    if len(point) != axes:
        wanted = "x,y,z" if axes == 3 else "x,y, for it is a picture"
        raise InputError(f"--point: {scan.path} takes {wanted}; got {len(point)} numbers.")
    whole = [*point, 0.0][:3]
    return scan.voxel_of(whole) if mm else whole


def _about(scan: Scan, voxel: Sequence[float]) -> dict[str, list[float]]:
    axes = 2 if scan.shape[2] == 1 else 3
    both = {"voxel": voxel, "mm": scan.mm_of(voxel)}
    return {name: [round(v, 3) for v in values[:axes]] for name, values in both.items()}


def _pictures(
    scan: Scan, at: tuple[int, int, int], pixels: torch.Tensor, wanted: torch.Tensor
) -> tuple[NDArray[Any], NDArray[Any]]:
    """A slice with a mark, and how similar its pixels are, (S, S, 3) each with values in [0, 1]."""
    x, y, z = at
    image, similarity = scan.image[..., z], torch.einsum("exy,e->xy", pixels, wanted).clamp(0, 1)
    shown = [plane.expand(3, -1, -1).movedim(0, -1).numpy().copy() for plane in (image, similarity[None])]
    for picture in shown:
        picture[max(x - ARM, 0) : x + ARM + 1, y] = MARK
        picture[x, max(y - ARM, 0) : y + ARM + 1] = MARK
    return shown[0], shown[1]
