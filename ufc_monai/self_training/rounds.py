"""A round: the labels that a teacher has given to the unlabelled volumes, as files that resume and report read.

``round_N/round.json`` says of which teacher, data and volumes they are, what was kept and how much the round before
agrees; ``round_N/K/`` is an entry as the slice store has them, with the arrays ``label`` (what is learned, 255 where
nothing is) and ``predicted`` (all of it), (n, 1, H, W) uint8, on the network's grid. They are memory-mapped, for which
a compressed ``.npz`` would not do.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import inside, read_json, readable_disk_errors, sha256_of, write_json
from ufc_monai.data.store import StoreEntry, write_entry
from ufc_monai.self_training.choose import LEVELS, Choice, Predicted, chosen_labels, confidences, dice_of, overlap
from ufc_monai.transforms.labels import IGNORE

FORMAT = 3
SMALLEST, LARGEST = 0.1, 10.0
"""A class whose share of the voxels is outside of this many times that of the true labels has collapsed."""
STABLE = 0.3
"""A class of which two rounds agree less, by Dice, is not learned from predictions."""


@dataclass(frozen=True)
class Round:
    """A complete round on disk.

    Attributes:
        folder: where it lies.
        content: of ``round.json``.
    """

    folder: Path
    content: Mapping[str, Any] = field(repr=False)

    @classmethod
    def open(cls, folder: Path, sha256: str | None = None) -> Round:
        """Read a round.

        Args:
            folder: ``round_N``.
            sha256: of its ``round.json``, where a checkpoint names it.

        Raises:
            InputError: if it is gone, damaged, or another than the checkpoint's.
        """
        found = cls(folder, read_json(folder / "round.json", "output_dir"))
        if found.content.get("format") != FORMAT:
            raise InputError(f"{folder / 'round.json'} is of another version. Begin the training anew.")
        if sha256 is not None and found.sha256 != sha256:
            raise InputError(
                f"resume: {folder} is not the round that the checkpoint names (sha256 differs). Put it back, or delete "
                "the checkpoint to begin anew."
            )
        return found

    @property
    def sha256(self) -> str:
        """Of ``round.json``, which names the sha256 of every other file of the round."""
        return sha256_of(self.folder / "round.json")

    def entries(self) -> list[StoreEntry]:
        """The volumes, in the order of the data set.

        Raises:
            InputError: if a file is gone or changed.
        """
        for name, sha256 in self.content["files"].items():
            path = inside(self.folder, name, "round.json")
            if not path.is_file() or sha256_of(path) != sha256:
                raise InputError(f"{path} is gone or changed since its round. Delete the checkpoint to begin anew.")
        return [StoreEntry(self.folder / str(k)) for k in range(len(self.content["volumes"]))]


class RoundWriter:
    """Writes a round in two passes: what the teacher predicts of each volume, then what of it is learned.

    Args:
        folder: ``round_N``; it appears whole or not at all.
        volumes: the unlabelled ones.
        choice: how sure a prediction must be.
        shares: of the pixels of the labelled volumes that each class has, (classes,).
        before: the round before, for the agreement.
    """

    def __init__(
        self,
        folder: Path,
        volumes: Sequence[StoreEntry],
        choice: Choice,
        shares: NDArray[np.float64],
        before: Round | None = None,
    ) -> None:
        self.folder = folder
        self.volumes = volumes
        self.choice = choice
        self.shares = shares
        self.before = before.entries() if before else None

    def write(self, predict: Callable[[StoreEntry], Predicted], about: Mapping[str, Any]) -> Round:
        """Predict every volume, choose what is sure, and write the files.

        Args:
            predict: the teacher.
            about: what ``round.json`` says beside figures: the step, the sha256 of teacher and data, class names.
        """
        with readable_disk_errors(self.folder):
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            for half in self.folder.parent.glob(".round_*"):  # of a process that was killed
                shutil.rmtree(half, ignore_errors=True)
            with tempfile.TemporaryDirectory(
                dir=self.folder.parent, prefix=f".{self.folder.name}-", ignore_cleanup_errors=True
            ) as name:
                content = self._write(Path(name), predict)
                write_json(Path(name, "round.json"), {"format": FORMAT, **about, **content})
                shutil.rmtree(self.folder, ignore_errors=True)  # of a run that was killed before its checkpoint
                Path(name).chmod(0o755)  # a temporary folder is its owner's alone
                Path(name).rename(self.folder)
                Path(name).mkdir()  # what TemporaryDirectory removes
        return Round.open(self.folder)

    def _write(self, folder: Path, predict: Callable[[StoreEntry], Predicted]) -> dict[str, Any]:
        n, agreements = len(self.shares), []
        histogram = np.zeros((2, n, LEVELS), dtype=np.int64)
        for k, volume in enumerate(tqdm(self.volumes, "teacher", unit="volume", leave=False, disable=None)):
            found = predict(volume)
            histogram += confidences(found, n)
            if self.before is not None:
                agreements.append(overlap(_stacked(self.before[k].array("predicted")), found.classes, n))
            np.save(folder / f"{k}.npy", np.stack(found), allow_pickle=False)
        agreement = dice_of(np.sum(agreements, axis=0)) if agreements else None
        off = switched_off(histogram[0].sum(axis=1), self.shares, agreement)
        cuts, rows = self.choice.cuts(histogram, self.shares), []
        for k, volume in enumerate(self.volumes):
            found = Predicted(*np.load(folder / f"{k}.npy"))
            label = chosen_labels(found, cuts, off)
            _save_volume(folder / str(k), volume, label=label, predicted=found.classes)
            (folder / f"{k}.npy").unlink()
            rows.append({"image": _image_of(volume), **_figures(label, found.classes, n)})
            if agreements:
                rows[-1]["agreement"] = _rounded(dice_of(agreements[k]))
        files = {file.relative_to(folder).as_posix(): sha256_of(file) for file in sorted(folder.glob("*/*"))}
        shown = [c for c in range(1, n) if self.shares[c] > 0]  # what no label shows says nothing of the teacher
        collapsed = 2 * len(set(off).intersection(shown)) > len(shown)
        figures = {"cuts": (cuts.low / (LEVELS - 1)).round(3).tolist(), "off": off, "collapsed": collapsed}
        figures |= {} if agreement is None else {"agreement": _rounded(agreement)}
        return {**figures, "volumes": rows, "files": files}


def switched_off(
    voxels: NDArray[np.int64], shares: NDArray[np.float64], agreement: NDArray[np.float64] | None
) -> list[int]:
    """Classes that are not learned from predictions: collapsed, or not twice the same.

    Args:
        voxels: predicted of each class, (classes,).
        shares: of the pixels of the labelled volumes, (classes,).
        agreement: Dice of each class with the round before, (classes,).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        growth = voxels / voxels.sum() / shares
    stays = (growth >= SMALLEST) & (growth <= LARGEST)
    if agreement is not None:
        stays &= ~(agreement < STABLE)
    return [c for c in range(1, len(shares)) if not stays[c]]


def remove_volumes(folder: Path) -> None:
    """Remove the labels of a round that is not needed any more; ``round.json`` stays, for the report."""
    for volume in folder.glob("*/"):
        shutil.rmtree(volume, ignore_errors=True)


def _save_volume(folder: Path, volume: StoreEntry, **arrays: NDArray[np.uint8]) -> None:
    folder.mkdir()
    items = [{"id": item["id"]} for item in volume.items]
    write_entry(folder, items, {key: np.moveaxis(array, -1, 0)[:, None] for key, array in arrays.items()})


def _figures(label: NDArray[np.uint8], classes: NDArray[np.uint8], n: int) -> dict[str, Any]:
    """Voxels predicted and learned of each class, and the share of all that is ignored."""
    counts = {
        name: np.bincount(x.ravel(), minlength=n)[:n].tolist() for name, x in (("predicted", classes), ("kept", label))
    }
    return {**counts, "ignored": round(float((label == IGNORE).mean()), 4)}


def _rounded(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(v) else round(float(v), 4) for v in values]


def _stacked(slices: NDArray[Any]) -> NDArray[np.uint8]:
    """(n, 1, H, W) of the store as (H, W, D)."""
    return np.moveaxis(slices[:, 0], 0, -1)


def _image_of(volume: StoreEntry) -> str:
    return str(volume.items[0]["id"]).rpartition("#")[0]
