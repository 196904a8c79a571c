"""What a dense pretraining has learned, ready to embed every pixel of a scan; and the place most like another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ufc_monai.artifacts.transfer import load_weights, read_network
from ufc_monai.base.bundles import CONTRASTIVE
from ufc_monai.base.errors import InputError
from ufc_monai.networks.build import build_network
from ufc_monai.transforms.chain import Standardise, volume_chain

AT_ONCE = 16
"""Slices that are embedded together."""


@dataclass(frozen=True)
class Scan:
    """A scan on the network's grid.

    Attributes:
        path: its file.
        image: (C, S, S, D), in [0, 1].
        to_mm: from indices of the grid to RAS millimetres, (4, 4).
        file_to_mm: from voxel indices of the file, (4, 4).
        shape: of the file, three axes; a picture has one slice.
    """

    path: Path
    image: Tensor
    to_mm: NDArray[np.float64]
    file_to_mm: NDArray[np.float64]
    shape: tuple[int, ...]

    def voxel_of(self, mm: Sequence[float]) -> list[float]:
        """Voxel indices of the file, not rounded, of a point in millimetres."""
        return _moved(np.linalg.inv(self.file_to_mm), mm)

    def mm_of(self, voxel: Sequence[float]) -> list[float]:
        """The millimetres of a voxel of the file."""
        return _moved(self.file_to_mm, voxel)

    def place_of(self, voxel: Sequence[float]) -> list[float]:
        """Where a voxel of the file lies on the grid.

        Raises:
            InputError: if it is no voxel of the file, or lies beside what the network sees of it.
        """
        size = " x ".join(map(str, self.shape))
        if not all(-0.5 <= v <= n - 0.5 for v, n in zip(voxel, self.shape, strict=True)):
            raise InputError(f"--point: voxel {_shown(voxel)} lies outside of {self.path}, which has {size} voxels.")
        place = _moved(np.linalg.inv(self.to_mm), self.mm_of(voxel))
        if not all(-0.5 <= p <= n - 0.5 for p, n in zip(place, self.image.shape[1:], strict=True)):
            raise InputError(
                f"--point: voxel {_shown(voxel)} of {self.path} lies beside the body's square box, and the network "
                "sees nothing else. Mark a point in the body."
            )
        return place

    def voxel_at(self, place: Sequence[float]) -> list[int]:
        """The voxel of the file that is nearest to a place on the grid."""
        voxel = np.rint(self.voxel_of(_moved(self.to_mm, place))).astype(int)
        return [int(v) for v in np.clip(voxel, 0, np.array(self.shape) - 1)]


@dataclass(frozen=True)
class PixelNetwork:
    """A network of stage 2 that embeds pixels.

    Attributes:
        record: its network.json.
        network: from slices (B, C, S, S) to at least as many channels as an embedding has.
        device: where it is.
    """

    record: Mapping[str, Any]
    network: nn.Module
    device: str

    @classmethod
    def open(cls, run: Path, device: str) -> PixelNetwork:
        """Read the network of a run.

        Args:
            run: its folder.
            device: where to compute.

        Raises:
            InputError: if there are no weights, or they embed whole slices alone.
        """
        models = run / CONTRASTIVE / "models"
        record = read_network(models, CONTRASTIVE)
        if "dense" not in record:
            raise InputError(
                f"--weights: {models / 'model.pt'} embeds slices, not pixels ({record.get('loss')}). Name a run with a "
                "method that pretrains the decoder, such as --method local_discrimination."
            )
        network = build_network(record["dense"]).to(device).eval()
        load_weights(network, models)
        return cls(record, network, device)

    def scan(self, path: Path) -> Scan:
        """Read a scan.

        Raises:
            InputError: if it cannot be read, or shows nothing: all its voxels look the same in the network's window.
        """
        preprocessing = {**self.record["preprocessing"], "standardise": False}
        chain = Compose(volume_chain(preprocessing, self.record["dense"]["in_channels"]))
        image = chain({"image": str(path)})["image"]
        if image.min() == image.max():
            low, high = preprocessing["window"]
            raise InputError(f"{path} is empty: all of it looks the same in the window {low:g} to {high:g}.")
        shape = tuple(int(n) for n in image.meta["spatial_shape"])
        to_mm, file_to_mm = (torch.as_tensor(m).numpy() for m in (image.affine, image.meta["original_affine"]))
        return Scan(path, image.as_tensor(), to_mm, file_to_mm, (*shape, 1)[:3])

    @torch.inference_mode()
    def embed(self, image: Tensor) -> Tensor:
        """Embeddings of unit length of all pixels, (D, E, S, S), of an image (C, S, S, D)."""
        slices, size = image.movedim(-1, 0), self.record["embedding_size"]
        if self.record["preprocessing"]["standardise"]:
            slices = Standardise()(slices)
        parts = [self.network(part.to(self.device))[:, :size].float().cpu() for part in torch.split(slices, AT_ONCE)]
        return F.normalize(torch.cat(parts), dim=1)

    def at(self, scan: Scan, place: Sequence[float]) -> Tensor:
        """The embedding, (E,), at a place of the grid, between its pixels and in the nearest slice."""
        x, y, z = place
        index = min(max(round(z), 0), scan.image.shape[-1] - 1)
        pixels, size = self.embed(scan.image[..., index : index + 1]), scan.image.shape[1]
        # grid_sample's first coordinate runs along the last axis
        where = torch.tensor([[[[y, x]]]], dtype=pixels.dtype).add(0.5).mul(2 / size).sub(1)
        found = F.grid_sample(pixels, where, padding_mode="border", align_corners=False)
        return F.normalize(found.flatten(), dim=0)


def most_similar(pixels: Tensor, wanted: Tensor) -> tuple[tuple[int, int, int], Tensor]:
    """The pixel whose embedding is most like one.

    Args:
        pixels: of unit length, (D, E, S, S).
        wanted: of unit length, (E,).

    Returns:
        Its indices (x, y, z), and the cosine similarity of all pixels, (S, S, D).
    """
    similarity = torch.einsum("zexy,e->xyz", pixels, wanted)
    x, y, z = np.unravel_index(int(similarity.argmax()), similarity.shape)
    return (int(x), int(y), int(z)), similarity


def _moved(affine: NDArray[Any], point: Sequence[float]) -> list[float]:
    moved = affine[:3, :3] @ np.asarray(point, dtype=np.float64) + affine[:3, 3]
    return [float(v) for v in moved]


def _shown(point: Sequence[float]) -> str:
    return ",".join(f"{v:g}" for v in point)
