"""Handlers that leave a picture of what a stage has done; :mod:`ufc_monai.report`, imported then, draws it."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import affine_to_spacing
from monai.transforms import Orientation
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import default_collate

from ufc_monai.artifacts.features import encode, spread
from ufc_monai.base.ranks import Handler, Reporter
from ufc_monai.data.slices import SliceDataset
from ufc_monai.training.loaders import PrepareBatch
from ufc_monai.transforms.chain import Standardise
from ufc_monai.transforms.volume import LoadVolume

if TYPE_CHECKING:
    from ufc_monai.report.slices import Overlay


SHOWN = 8
"""Slices in a picture, spread over the data set."""
POINTS = 2000
"""Slices in the map of embeddings; more would cover each other."""


@dataclass(eq=False)
class ReconstructionsPicture(Reporter):
    """Draw ``reconstructions.png`` at the end of stage 1: slices, and what is left of them behind the bottleneck.

    Args:
        output_dir: folder of the picture.
        dataset: the slices that were trained on.
        normalise: what they go through on their way into the network, and back on the picture.
    """

    output_dir: str | os.PathLike[str]
    dataset: SliceDataset
    normalise: Standardise | None = None

    @torch.no_grad()
    def _completed(self, engine: Engine) -> None:
        images = _sample(self.dataset)["image"].to(engine.state.device)
        mean, deviation = self.normalise.statistics(images) if self.normalise else (0.0, 1.0)
        network: nn.Module = getattr(engine.network, "module", engine.network)  # one rank draws, without the others
        training = network.training
        network.eval()  # the posterior's mean in place of a draw
        reconstructions = network((images - mean) / deviation)[0] * deviation + mean
        network.train(training)
        from ufc_monai.report.drawing import save_rows

        rows = [_pictures(images), _pictures(reconstructions.clamp(0, 1))]
        save_rows(Path(self.output_dir, "reconstructions.png"), rows, ["slice", "reconstruction"])


@dataclass(eq=False)
class ViewsPicture(Reporter):
    """Draw ``views.png`` behind the first step of stage 2: slices and two views of each as the network sees them.

    Args:
        output_dir: folder of the picture.
        dataset: the slices to be trained on.
    """

    output_dir: str | os.PathLike[str]
    dataset: SliceDataset

    def attach(self, engine: Engine) -> None:
        """Draw for a trainer that prepares two views of a batch."""
        # not in front of it: a figure takes a second, and a resumed training has one
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), self._draw)

    def _draw(self, engine: Engine) -> None:
        batch = _sample(self.dataset)
        # a copy draws from a generator of its own: training sees the same views with and without this picture
        prepare: PrepareBatch = copy.deepcopy(engine.prepare_batch)
        prepare.normalise = None
        views, _ = prepare(batch, engine.state.device)
        first, second = views.chunk(2)
        titles = ["" if c < 0 else f"cluster {c}" for c in batch["cluster"].tolist()]
        from ufc_monai.report.drawing import save_rows

        rows = [_pictures(images) for images in (batch["image"], first, second)]
        save_rows(Path(self.output_dir, "views.png"), rows, ["slice", "view 1", "view 2"], titles)


@dataclass(eq=False)
class EmbeddingPicture(Reporter):
    """Draw ``embedding.png`` at the end of stage 2: the encoder's features in two dimensions (PCA).

    Args:
        output_dir: folder of the picture.
        dataset: the slices that were trained on.
        encoder: the encoder, without its projection head.
        normalise: what slices go through on their way into the network.
    """

    output_dir: str | os.PathLike[str]
    dataset: SliceDataset
    encoder: nn.Module
    normalise: Callable[[Tensor], Tensor] | None = None

    def _completed(self, engine: Engine) -> None:
        some = spread(len(self.dataset), POINTS)
        features = encode(self.encoder, self.dataset, engine.state.device, indices=some, normalise=self.normalise)
        if not np.isfinite(features).all():  # the training broke down, which the verdict says
            return
        from sklearn.decomposition import PCA

        from ufc_monai.report.clusters import save_embedding_map

        points = PCA(2, svd_solver="full").fit_transform(features)
        clusters = np.array([self.dataset[i]["cluster"] for i in some])
        positions = np.array([self.dataset.items[i]["position"] for i in some])
        save_embedding_map(Path(self.output_dir, "embedding.png"), points, clusters, positions)


@dataclass(eq=False)
class OverlaysPicture(Handler):
    """Draw ``overlays.png``: the best, the median and the worst test volume by mean Dice, one axial slice of each.

    The slice is that with most of the reference's foreground. Image, reference and prediction are shown on the grid of
    the image's file, turned to RAS; only that slice of each volume is kept. The evaluator's output holds class maps
    ``pred`` and ``label`` on that grid.

    Args:
        output_dir: folder of the picture.
        names: names of the classes 1..n.
        window: the Hounsfield units shown as black and white.
        metric: name of the evaluator's ``MeanDice``, without background.
        channels: of the images.
    """

    output_dir: str | os.PathLike[str]
    names: Sequence[str]
    window: Sequence[float]
    metric: str = "mean_dice"
    channels: int = 1

    def _started(self, engine: Engine) -> None:
        self._overlays: list[Overlay] = []

    def _iteration_completed(self, engine: Engine) -> None:
        self._overlays += [self._overlay(item) for item in engine.state.output]

    def _overlay(self, item: Mapping[str, Any]) -> Overlay:
        file, to_ras = item["image"].meta["filename_or_obj"], Orientation("RAS", labels=None)
        image, reference, prediction = map(to_ras, (LoadVolume(self.channels)(file), item["label"], item["pred"]))
        z = int((reference > 0).sum(dim=(0, 1, 2)).argmax())
        low, high = self.window
        shown, truth, found = (_pictures(x.as_tensor()[None, ..., z])[0] for x in (image, reference, prediction))
        width, height, _ = affine_to_spacing(image.affine, r=3).tolist()
        from ufc_monai.report.slices import Overlay

        return Overlay(Path(file).name, ((shown - low) / (high - low)).clip(0, 1), truth, found, height / width)

    def _completed(self, engine: Engine) -> None:
        dice = engine.state.metric_details[self.metric].cpu().nanmean(dim=1).tolist()
        ranked = sorted((i for i, d in enumerate(dice) if d == d), key=lambda i: -dice[i])
        if not ranked:
            return
        # of one or two volumes, the later name stands
        places = {ranked[len(ranked) // 2]: "median", ranked[-1]: "worst", ranked[0]: "best"}
        shown = [
            replace(self._overlays[i], title=f"{places[i]}: {self._overlays[i].title}, mean Dice {dice[i]:.2f}")
            for i in ranked
            if i in places
        ]
        from ufc_monai.report.slices import save_overlays

        save_overlays(Path(self.output_dir, "overlays.png"), shown, self.names)


def _sample(dataset: SliceDataset) -> dict[str, Any]:
    """One batch of slices spread over a data set."""
    batch: dict[str, Any] = default_collate([dataset[i] for i in spread(len(dataset), SHOWN)])
    return batch


def _pictures(images: Tensor) -> NDArray[np.float32]:
    """(n, 1, H, W) on any device to (n, H, W), or (n, 3, H, W) to (n, H, W, 3)."""
    pictures = images.movedim(1, -1).float().cpu().numpy()
    return pictures[..., 0] if pictures.shape[-1] == 1 else pictures
