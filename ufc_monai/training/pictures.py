"""Handlers that leave a picture of what a stage has done; :mod:`ufc_monai.report`, imported then, draws it."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor, affine_to_spacing
from monai.networks.utils import eval_mode
from monai.transforms import Orientation
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import default_collate

from ufc_monai.artifacts.features import encode
from ufc_monai.base.ranks import Handler, Reporter
from ufc_monai.base.sample import spread
from ufc_monai.data.slices import SliceDataset
from ufc_monai.losses.discrimination import memberships_of
from ufc_monai.training.loaders import PrepareBatch
from ufc_monai.transforms.chain import Standardise
from ufc_monai.transforms.crop import BodyCrop
from ufc_monai.transforms.labels import classes_of
from ufc_monai.transforms.volume import LoadVolume

if TYPE_CHECKING:
    from ufc_monai.report.masks import Planes


SHOWN = 8
"""Slices in a picture, spread over the data set."""
POINTS = 2000
"""Slices in the map of embeddings; more would cover each other."""
MOST = 10
"""Volumes whose masks are kept for the report."""


class Judge(Protocol):
    """What knows, or predicts, the mean Dice of the volume that was just segmented; NaN where there is none."""

    mean_dice: float


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
class RegionPicture(Reporter):
    """Draw ``structure.png`` at the end of stage 2: slices, and the share of each pixel in the first region.

    Args:
        output_dir: folder of the picture.
        dataset: the slices that were trained on.
        name: of the region.
        normalise: what slices go through on their way into the network.
    """

    output_dir: str | os.PathLike[str]
    dataset: SliceDataset
    name: str
    normalise: Callable[[Tensor], Tensor] | None = None

    @torch.no_grad()
    def _completed(self, engine: Engine) -> None:
        images = _sample(self.dataset)["image"].to(engine.state.device)
        with eval_mode(engine.network):
            scores = engine.network(self.normalise(images) if self.normalise else images)[1]
        region = memberships_of(scores)[:, :1]
        outlined = torch.where(region > 0.5, 1, images / 2)
        from ufc_monai.report.drawing import save_rows

        rows = [_pictures(pictures) for pictures in (images, region.expand_as(images), outlined)]
        save_rows(Path(self.output_dir, "structure.png"), rows, ["slice", self.name, "mask"])


@dataclass(eq=False)
class MasksPicture(Handler):
    """Keep the worst masks in three planes through each structure, in ``planes.npz``, for the report.

    The worst of them is drawn to ``overlays.png``. Image and masks are shown on the grid of the image's file, turned to
    RAS and cropped to the body. The evaluator's output holds the mask ``pred`` and, of a test, ``label`` on that grid.

    Args:
        output_dir: folder of both files.
        names: names of the classes 1..n.
        window: the Hounsfield units shown as black and white.
        root: folder of the data set, which volumes are named relative to.
        judge: knows which are the worst; it comes before this handler.
        channels: of the images.
        ids: what stands in ``pred`` for the classes 1..n, if not these numbers.
        beside: ``planes.npz`` of another test, if it has run; its volumes are kept then where this test has them,
            so that both can be compared.
    """

    output_dir: str | os.PathLike[str]
    names: Sequence[str]
    window: Sequence[float]
    root: str | os.PathLike[str]
    judge: Judge
    channels: int = 1
    ids: Sequence[int] | None = None
    beside: str | os.PathLike[str] = ""

    def _started(self, engine: Engine) -> None:
        from ufc_monai.report.masks import read_planes

        self._volumes: dict[str, tuple[tuple[bool, bool, float], Any]] = {}
        own = os.path.realpath(os.path.dirname(self.beside)) == os.path.realpath(self.output_dir)
        self._wanted = {} if own else read_planes(Path(self.beside))

    def _iteration_completed(self, engine: Engine) -> None:
        (item,) = engine.state.output
        file = item["image"].meta["filename_or_obj"]
        to_ras = Orientation("RAS", labels=None)
        maps = [item[key] for key in ("pred", "label") if item.get(key) is not None]
        masks = [to_ras(found).as_tensor()[0].cpu().numpy() for found in maps]
        if self.ids is not None:
            masks[0] = classes_of(masks[0], self.ids)
        dice = self.judge.mean_dice
        name = Path(os.path.relpath(file, self.root)).as_posix()
        rank = (name not in self._wanted, math.isnan(dice), dice)
        if len(self._volumes) < MOST or rank < max(self._volumes.values(), key=itemgetter(0))[0]:
            planes = self._planes(to_ras(LoadVolume(self.channels)(file)), masks)
            self._volumes[name] = (rank, planes)
            self._volumes = dict(sorted(self._volumes.items(), key=lambda entry: entry[1][0])[:MOST])

    def _planes(self, image: MetaTensor, masks: Sequence[NDArray[Any]]) -> Planes:
        from ufc_monai.report.masks import planes_through

        shown, sides = (masks[0] > 0) | (masks[-1] > 0), []
        for axis, (start, end) in enumerate(zip(*BodyCrop().compute_bounding_box(image), strict=True)):
            inside = np.any(shown, axis=tuple({0, 1, 2} - {axis})).nonzero()[0].tolist() or [start]
            sides.append(slice(max(0, min(start, inside[0])), max(end, inside[-1] + 1)))
        box, (low, high) = tuple(sides), self.window
        picture = (_pictures(image.as_tensor()[None])[0][box] - low) / (high - low)
        prediction, *reference = (mask[box] for mask in masks)
        spacing = affine_to_spacing(image.affine, r=3).tolist()
        return planes_through(picture.clip(0, 1), reference[0] if reference else None, prediction, spacing)

    def _completed(self, engine: Engine) -> None:
        from ufc_monai.report.drawing import save
        from ufc_monai.report.masks import draw_masks, save_planes

        both = self._wanted.keys() & self._volumes  # none, if the other test is of another data set or fold
        volumes = {name: planes for name, (_, planes) in self._volumes.items() if name in both or not both}
        save_planes(Path(self.output_dir, "planes.npz"), volumes)
        if worst := next(filter(None, volumes.values()), None):
            save(draw_masks({"prediction": worst}, min(worst), self.names), Path(self.output_dir, "overlays.png"))


def _sample(dataset: SliceDataset) -> dict[str, Any]:
    """One batch of slices spread over a data set."""
    batch: dict[str, Any] = default_collate([dataset[i] for i in spread(len(dataset), SHOWN)])
    return batch


def _pictures(images: Tensor) -> NDArray[np.float32]:
    """(n, 1, ...) on any device to (n, ...), or (n, 3, ...) to (n, ..., 3)."""
    pictures = images.movedim(1, -1).float().cpu().numpy()
    return pictures[..., 0] if pictures.shape[-1] == 1 else pictures
