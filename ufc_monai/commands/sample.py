"""``sample``: new slices from the clusters of a run, or on the way between two slices."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ufc_monai.artifacts.sampling import Codes
from ufc_monai.artifacts.transfer import read_network
from ufc_monai.base.bundles import VAE
from ufc_monai.base.chain import CLUSTERS, VAE_TRAINING, record_of
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import atomic_path
from ufc_monai.base.formats import OWN_PICTURE
from ufc_monai.evaluation.published import Published
from ufc_monai.report.drawing import COLUMNS, save_rows
from ufc_monai.training.compute import device_of

logger = logging.getLogger(__name__)

PLACE = f"{VAE}/eval/samples"


def sample(
    weights: Path,
    target: Path | None = None,
    *,
    clusters: Sequence[str] = ("all",),
    n: int = 64,
    between: Sequence[str] | None = None,
    seed: int = 0,
    keys: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Decode new codes of stage 1.

    Args:
        weights: folder of the run.
        target: folder to write to; ``None`` is one of the run, whose report shows them.
        clusters: as of :meth:`Codes.draw`.
        n: slices of each; with ``between``, on the whole way.
        between: the ids of two slices; then no cluster is drawn from.
        seed: of the draws.
        keys: ``threads`` and ``device``.

    Returns:
        The pictures, ``cluster_3.png``, ``all.png``, ``prior.png`` or ``between.png``. Beside each lies a NIfTI with an
        axial slice for each code, in the units of the run's window.

    Raises:
        InputError: if the run has no clusters or no prior, or there is no such cluster or slice.
    """
    if n < 1:
        raise InputError(f"--n must be 1 or more, got {n}.")
    if "prior" in clusters and record_of(weights, VAE_TRAINING).get("settings", {}).get("beta") == 0:
        raise InputError(f"--clusters prior: {weights} was trained with beta 0, which knows no prior. Draw from all.")
    codes, draw = Codes.read(weights / CLUSTERS.place), torch.Generator().manual_seed(seed)
    if between:
        first, last = between
        drawn = {"between": codes.between(first, last, n)}
    else:
        drawn = {f"cluster_{c}" if c.isdigit() else c: codes.draw(c, n, draw) for c in clusters}
    network = _decoder(weights, device_of(keys or {}))
    folder, written = target or weights / PLACE, []
    folder.mkdir(parents=True, exist_ok=True)
    for name, z in drawn.items():
        pictures = _decoded(network, z)
        rows = [pictures[i : i + COLUMNS] for i in range(0, n, COLUMNS)]
        save_rows(folder / f"{name}.png", rows, [name.replace("_", " "), *[""] * (len(rows) - 1)])
        _save_nifti(folder / f"{name}.nii.gz", pictures, network.record["preprocessing"]["window"])
        written.append(folder / f"{name}.png")
    logger.info("%s, beside each a NIfTI of its %d slices", ", ".join(map(str, written)), n)
    return written


def _decoder(run: Path, device: str) -> Published:
    standardised = read_network(run / VAE / "models", VAE)["preprocessing"]["standardise"]
    return Published.open(run, VAE, device, {"sampling": False, "use_sigmoid": not standardised})


@torch.no_grad()
def _decoded(network: Published, codes: Tensor) -> NDArray[np.float32]:
    """Slices (n, H, W), or (n, H, W, 3) in colours, with values in [0, 1]."""
    decode: Any = network.network
    parts = [decode.decode_forward(part.to(network.device)).cpu() for part in torch.split(codes, 64)]
    images = torch.cat(parts)
    if network.normalise:  # of the brightness that a standardised slice lacks, that of the training's
        mean, deviation = _statistics(network.run)
        images = images * deviation + mean
    shown = images.clamp(0, 1).movedim(1, -1).numpy()
    return np.asarray(shown[..., 0] if shown.shape[-1] == 1 else shown)


def _statistics(run: Path) -> tuple[float, float]:
    """Mean and deviation of the pixels of the average slice that stage 1 trained on."""
    pictures = np.load(run / CLUSTERS.place / "thumbnails.npy", mmap_mode="r") / np.float32(255)
    return float(pictures.mean()), float(pictures.std(axis=(1, 2)).mean())


def _save_nifti(path: Path, pictures: NDArray[np.float32], window: Sequence[float]) -> None:
    low, high = window
    values = np.moveaxis(pictures * (high - low) + low, 0, 2)
    volume = nib.Nifti1Image(values.round().astype(np.int16), np.eye(4))
    volume.header["descrip"] = OWN_PICTURE
    with atomic_path(path) as temporary:
        nib.save(volume, temporary)
