"""Guards of self-training that were tried, and rules for drawing: variants of ``recipe.py``, not of the product.

Each is self-training with one thing changed, named in a small configuration by its ``_target_``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from ignite.engine import Engine
from numpy.typing import NDArray
from torch import Tensor

from ufc_monai.artifacts.sampling import Codes
from ufc_monai.artifacts.transfer import load_weights, read_network
from ufc_monai.base.bundles import VAE
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.data.samplers import PartnerSampler
from ufc_monai.data.slices import SliceDataset
from ufc_monai.data.store import StoreEntry
from ufc_monai.networks.build import build_network
from ufc_monai.self_training.choose import LEVELS, Choice, Cuts, Predicted, chosen_labels
from ufc_monai.self_training.handler import SelfTraining
from ufc_monai.self_training.rounds import Round
from ufc_monai.self_training.slices import JoinedSlices

NEAR = 0.1
"""Of a volume: how far from a labelled slice that shows a structure it is still believed."""
FEW = 5
"""Labelled slices of a cluster; where there are fewer, they forbid nothing."""


def agreement(found: Round | None, n: int) -> NDArray[np.float64]:
    """Dice of each class between the last two rounds, (n,); 1 where it is not known."""
    values = (found.content.get("agreement") if found else None) or [None] * n
    return np.array([1.0 if value is None else value for value in values])


@dataclass(eq=False)
class LessOfUnstable(SelfTraining):
    """A class keeps a smaller share of its voxels, the less the two rounds before agree on it."""

    def _write(self, folder: Path, engine: Engine) -> None:
        usual = self.choice
        shares = usual.keep * agreement(self.last_round, len(self.names))
        self.choice = Choice(shares[:, None], usual.least)  # type: ignore[arg-type]  # one a class
        super()._write(folder, engine)
        self.choice = usual


@dataclass(eq=False)
class Plausible(SelfTraining):
    """A class is ignored in slices where no labelled slice makes it likely: by position, or by cluster.

    Args:
        clusters: of the labelled and then the unlabelled slices; by position where none are given.
    """

    clusters: Sequence[int] = ()

    def _predict(self, volume: StoreEntry) -> Predicted:
        found = super()._predict(volume)
        allowed = self._allowed(volume)[:, None, None].transpose(1, 2, 3, 0)  # (1, 1, n, D)
        out = np.zeros_like(found.apart)
        for c in range(1, len(self.names)):
            out |= ((found.classes == c) & ~allowed[:, :, c]).astype(np.uint8)
        return found._replace(apart=found.apart | out)

    def _allowed(self, volume: StoreEntry) -> NDArray[np.bool_]:
        labelled, n = self.slices.labelled, len(self.names)
        shown = labelled.class_counts(n).numpy() > 0  # (N, n)
        if not self.clusters:
            apart = np.array([[abs(i["position"] - j["position"]) for j in labelled.items] for i in volume.items])
            return np.stack([(apart[:, shown[:, c]] <= NEAR).any(1) for c in range(n)], axis=1)
        clusters = np.array(self.clusters)
        of = dict(zip((item["id"] for item in self.slices.unlabelled.items), clusters[len(labelled) :], strict=True))
        mine = clusters[: len(labelled)]
        rows = [mine == of[item["id"]] for item in volume.items]
        return np.stack([shown[row].any(0) if row.sum() >= FEW else np.ones(n, dtype=bool) for row in rows])


@dataclass(eq=False)
class Even(SelfTraining):
    """Unlabelled slices are drawn so that each cluster has the same share.

    Args:
        clusters: of the labelled and then the unlabelled slices.
    """

    clusters: Sequence[int] = ()

    def _open(self, found: Round) -> None:
        super()._open(found)
        clusters, weights = torch.tensor(self.clusters), self.sampler.partner_weights
        in_cluster = torch.zeros(int(clusters.max()) + 1, dtype=weights.dtype).index_add(0, clusters, weights)
        self.sampler.partner_weights = weights / in_cluster[clusters].clamp(min=1e-9)


class SameCluster(PartnerSampler):
    """Partners of the same cluster, where it has another one.

    Args:
        clusters: of the labelled and then the unlabelled slices.
    """

    def __init__(self, *arguments: Any, clusters: Sequence[int], **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.clusters = torch.tensor(clusters)

    def _partner(self, one: int, ends: Tensor) -> int:
        usual = self.partner_weights if self.partner_weights.any() else self.weights
        beside = (usual * (self.clusters == self.clusters[one])).index_fill(0, torch.tensor(one), 0)
        return self._drawn(beside.double().cumsum(0) if beside.any() else ends)


class SampledSlices(JoinedSlices):
    """Slices, some of the unlabelled ones replaced by :class:`Sampled`."""

    def __init__(self, labelled: SliceDataset, unlabelled: SliceDataset) -> None:
        super().__init__(labelled, unlabelled)
        self.sampled: dict[int, dict[str, Tensor]] = {}

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A slice, or what was sampled in its place."""
        return super().__getitem__(index) | self.sampled.get(index - len(self.labelled), {})


@dataclass(eq=False)
class Sampled(SelfTraining):
    """In each round a share of the unlabelled slices is new: drawn by stage 1 from their clusters, as ``sample`` draws.

    The teacher labels them by the cuts of the round.

    Args:
        stage_1: folder of its ``models`` and ``clusters``.
        share: of the unlabelled slices.
    """

    stage_1: str | os.PathLike[str] = ""
    share: float = 0.25

    def _open(self, found: Round) -> None:
        super()._open(found)
        draw, folder = torch.Generator().manual_seed(found.content["round"]), Path(self.stage_1)
        codes, chosen = Codes.read(folder / "clusters"), torch.randperm(len(self.slices.unlabelled), generator=draw)
        chosen = chosen[: int(self.share * len(chosen))]
        cluster_of = dict(zip(codes.ids, codes.clusters.tolist(), strict=True))
        clusters = [cluster_of[self.slices.unlabelled.items[k]["id"]] for k in chosen.tolist()]
        images = self._decoded(torch.cat([codes.draw(str(c), 1, draw) for c in clusters]), folder / "models")
        labels = self._labelled(images, found)
        pairs = zip(chosen.tolist(), images, labels, strict=True)
        cast(SampledSlices, self.slices).sampled = {k: {"image": x, "label": y} for k, x, y in pairs}

    @torch.inference_mode()
    def _decoded(self, codes: Tensor, models: Path) -> Tensor:
        network: Any = build_network(read_network(models, VAE)["architecture"], {"sampling": False})
        load_weights(network, models)
        parts = [network.eval().decode_forward(part) for part in torch.split(codes, self.slices_at_once)]
        return torch.cat(parts).clamp(0, 1)

    @torch.inference_mode()
    def _labelled(self, images: Tensor, found: Round) -> Tensor:
        network, device = self.teacher.eval().module, next(self.teacher.parameters()).device
        parts = [self.inferer(part.to(device), network).cpu() for part in torch.split(images, self.slices_at_once)]
        chances = torch.cat(parts).float().softmax(dim=1).movedim(1, 0)  # (classes, n, H, W)
        classes, rival = chances.argmax(dim=0), 1 + chances[1:].argmax(dim=0)
        sure = chances.gather(0, torch.where(classes > 0, classes, rival)[None])[0]
        named, levels, others = (p.numpy().astype(np.uint8) for p in (classes, (sure * (LEVELS - 1)).round(), rival))
        low = np.round(np.array(found.content["cuts"]) * (LEVELS - 1)).astype(np.int64)
        seen = Predicted(named, levels, others, np.zeros_like(named))
        labels = chosen_labels(seen, Cuts(low, LEVELS - 1 - low), found.content["off"])
        return torch.from_numpy(labels)[:, None]


@dataclass(eq=False)
class Again(SelfTraining):
    """Trained from the initialisation on the last labels of another self-training, which lie beside it.

    Args:
        beside: the other's folder ``unlabelled_labels``.
    """

    beside: str | os.PathLike[str] = ""

    def _epoch_started(self, engine: Engine) -> None:
        if self.last_round is None:
            last = max(Path(self.beside).glob("round_*"), key=lambda path: int(path.name.rpartition("_")[2]))
            shutil.copytree(last, Path(self.folder, last.name))
            self._open(Round.open(Path(self.folder, last.name)))


def clusters_of(path: str, slices: JoinedSlices) -> list[int]:
    """The clusters of the labelled and then the unlabelled slices by a file of pseudo-labels."""
    items = chain(slices.labelled.items, slices.unlabelled.items)
    return PseudoLabels.load(path).of_slices(item["id"] for item in items)


def dealt_anew(clusters: Sequence[int]) -> list[int]:
    """The same clusters at random slices: the control."""
    return torch.tensor(clusters)[torch.randperm(len(clusters), generator=torch.Generator().manual_seed(0))].tolist()
