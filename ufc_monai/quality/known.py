"""``quality.json`` beside ``network.json``: what the labelled scans are like, and how evidence becomes a Dice."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Dataset

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import found_json, write_json
from ufc_monai.base.ranks import is_first
from ufc_monai.quality.predict import Calibration, Place, Signs, Usual, calibrate, distance, evidence, farthest_usual
from ufc_monai.quality.views import Infer, Seen, look, place
from ufc_monai.transforms.labels import IGNORE, Overlap

FORMAT = 1
MOST_VOLUMES = 24
"""Of the training and of the validation volumes, each, that are looked at."""
EXEMPLARS = 64
"""Slices of the training volumes that a scan is compared with."""
SOME = Signs(1.0, 1.0, 0.0, Place(1.0, (0.5, 0.5, 0.5)))
"""Of a mask, to try a calibration on."""


@dataclass(frozen=True)
class Known:
    """What is known of a network's training set.

    Attributes:
        calibration: how a Dice is predicted.
        usual: volume and place of the structures, by name.
        exemplars: features of slices, (m, d); ``None`` if nothing was kept.
        farthest: distance from which on a scan is unlike them; ``None`` if nothing tells.
    """

    calibration: Calibration = field(default_factory=Calibration)
    usual: Mapping[str, Usual] = field(default_factory=dict)
    exemplars: NDArray[np.float32] | None = None
    farthest: float | None = None

    @classmethod
    def beside(cls, ckpt_dir: str | os.PathLike[str]) -> Known:
        """Of the weights in a folder; nothing is known of those that a server has trained on.

        Raises:
            InputError: if the file is damaged.
        """
        path = Path(ckpt_dir, "quality.json")
        content = found_json(path, "ckpt_dir")
        network = found_json(path.with_name("network.json"), "ckpt_dir")
        if content.get("format") != FORMAT:
            return cls()
        try:
            return cls._tried(content) if content["model_sha256"] == network.get("model_sha256") else cls()
        except (AttributeError, KeyError, TypeError, ValueError) as e:
            raise InputError(
                f"ckpt_dir: {path} is damaged ({type(e).__name__}: {e}). Train again, or delete it: masks are judged "
                "without it, too."
            ) from e

    @classmethod
    def _tried(cls, content: Mapping[str, Any]) -> Known:
        """What a file says, after it was tried on a mask and its own slices."""
        exemplars = np.array(content["exemplars"], dtype=np.float32)
        usual = {name: Usual(**of) for name, of in content["usual"].items()}
        found = cls(Calibration(**content["calibration"]), usual, exemplars, content["farthest"])
        found.unlikeness(exemplars)
        for of in (None, *usual.values()):
            found.calibration.dice(SOME, of)
        str(found.calibration)
        return found

    def unlikeness(self, features: NDArray[np.float32]) -> float | None:
        """How far slices (n, d) are from the training set, as a multiple of what is usual; unlike it above 1."""
        if self.exemplars is None or not self.farthest or not len(features):
            return None
        return distance(features, self.exemplars) / self.farthest


@dataclass(frozen=True)
class Labelled:
    """A labelled volume: what the network makes of it, and what there is."""

    seen: Seen
    dice: Sequence[float | None]
    places: Sequence[Place]


def describe_labelled(
    ckpt_dir: str | os.PathLike[str],
    network: nn.Module,
    infer: Infer,
    names: Sequence[str],
    training: Dataset[dict[str, MetaTensor]],
    validation: Dataset[dict[str, MetaTensor]],
    device: torch.device | str,
    cleaning: Mapping[str, Any] | None = None,
) -> None:
    """Write ``quality.json`` of the weights in a folder, on the first rank.

    Args:
        ckpt_dir: folder of ``network.json``.
        network: with these weights.
        infer: runs it on slices.
        names: of the classes 1..n.
        training: labelled volumes, image and label on the network's grid.
        validation: the same, which the network has not learned; they calibrate.
        device: where the network is.
        cleaning: of ``network.json``.
    """
    if not is_first():
        return

    def labelled(volumes: Dataset[dict[str, MetaTensor]]) -> list[Labelled]:
        return [look_at_labelled(v, network, infer, len(names), device, cleaning) for v in _some(volumes)]

    learned, held_out = labelled(training), labelled(validation)
    usual = usual_of(learned, names)
    each = max(1, EXEMPLARS // max(1, len(learned)))
    kept = [v.seen.features[np.linspace(0, len(v.seen.features) - 1, each, dtype=int)] for v in learned]
    content = {
        "format": FORMAT,
        "model_sha256": found_json(Path(ckpt_dir, "network.json"), "ckpt_dir").get("model_sha256"),
        "calibration": asdict(calibrate(*evidence_of(held_out, names, usual))),
        "usual": {name: asdict(of) for name, of in usual.items()},
        "farthest": farthest_usual(kept, [volume.seen.features for volume in held_out]),
        "exemplars": [[float(f"{x:.4g}") for x in row] for row in np.concatenate(kept).tolist()],
    }
    write_json(Path(ckpt_dir, "quality.json"), content)


def usual_of(learned: Sequence[Labelled], names: Sequence[str]) -> dict[str, Usual]:
    """Volume and place of each structure that labelled volumes hold."""
    found = {name: [v.places[c] for v in learned if v.places[c].millilitres] for c, name in enumerate(names)}
    return {name: Usual.of(places, len(learned)) for name, places in found.items() if places}


def evidence_of(
    held_out: Sequence[Labelled], names: Sequence[str], usual: Mapping[str, Usual]
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Of structures that volumes hold and the network has found: evidence (n, 6), true Dice (n,), whose they are."""
    rows, true, of = [], [], []
    for k, volume in enumerate(held_out):
        for name, signs, dice in zip(names, volume.seen.signs, volume.dice, strict=True):
            if dice is not None and signs.place.millilitres:
                rows.append(evidence(signs, usual.get(name)))
                true.append(dice)
                of.append(str(k))
    return np.array(rows), np.array(true), of


def voxel_of(image: MetaTensor) -> float:
    """Volume of a voxel, mm^3, of an image (C, H, W, D) or a batch of one."""
    affine = torch.as_tensor(image.affine).double().reshape(-1, 4, 4)[0]
    return float(torch.linalg.det(affine[:3, :3]).abs())


def _some(volumes: Dataset[dict[str, MetaTensor]]) -> Iterable[dict[str, MetaTensor]]:
    n: int = len(volumes)  # type: ignore[arg-type]
    return (volumes[k] for k in np.linspace(0, n - 1, min(n, MOST_VOLUMES), dtype=int).tolist())


def look_at_labelled(
    volume: Mapping[str, MetaTensor],
    network: nn.Module,
    infer: Infer,
    n_classes: int,
    device: torch.device | str,
    cleaning: Mapping[str, Any] | None,
) -> Labelled:
    """Compare what the network makes of a labelled volume with its label, on the network's grid."""
    voxel, reference = voxel_of(volume["image"]), volume["label"][0].as_subclass(torch.Tensor)
    seen = look(network, infer, volume["image"].to(device), cleaning=cleaning, voxel=voxel)
    predicted = torch.from_numpy(seen.classes).masked_fill(reference == IGNORE, 0)
    dice, places = [], []
    for c in range(1, n_classes + 1):
        structure = reference == c
        dice.append(Overlap.of(predicted == c, structure).dice)
        places.append(place(structure, voxel))
    return Labelled(seen, dice, places)
