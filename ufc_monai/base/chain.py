"""The chain of a run: its stages, the files that each reads and writes, and which of them are out of date."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ufc_monai.base.bundles import CONTRASTIVE, UNET, VAE
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import found_json, read_json, sha256_of

logger = logging.getLogger(__name__)
ASKED = "UFC_ASKED"
"""The variable of a stage's environment that says, as JSON, what ``run`` or ``study`` asks of it."""


def refuse_stale(files: Iterable[str | os.PathLike[str] | None], *, allow: bool = False) -> list[str]:
    """Refuse files that are out of date; name and trust those without a record, or made from files that are not here.

    Args:
        files: that a stage is about to read; those that do not exist are passed over.
        allow: warn instead.

    Returns:
        What is out of date, one sentence a file; nothing unless that is allowed.

    Raises:
        InputError: naming the first file that is out of date, and both ways out.
    """
    found = _LookBack()
    for file in files:
        if file is not None and Path(file).is_file():
            found.follow(Path(os.path.abspath(file)))
    if found.elsewhere:
        logger.info("taken on trust, without the record or file to check: %s", ", ".join(found.elsewhere))
    if found.stale and not allow:
        more = f" ({len(found.stale) - 1} more are out of date.)" if len(found.stale) > 1 else ""
        raise InputError(f"{found.stale[0]} Make it again, or go on as it is with --allow_stale True.{more}")
    for line in found.stale:
        logger.warning("allow_stale: %s", line)
    return found.stale


def is_as_recorded(record: Path) -> bool:
    """Whether what a stage has written is what its ``run.json`` tells of, and what it has read is up to date.

    Files that are gone are not missed; of a stage that was allowed to read what is out of date, that stays allowed.
    """
    files = dict([*_files(record, "inputs").values(), *_files(record, "outputs").values()])
    same = all(_sha256_once(path) == sha256 for path, sha256 in files.items() if path.is_file())
    return same and (found_json(record, "run.json").get("allow_stale") is True or are_up_to_date([record]))


def are_up_to_date(records: Iterable[Path]) -> bool:
    """Whether what stages have read, by their ``run.json``, is what is there now, as far back as there are records."""
    found = _LookBack()
    for record in records:
        found.compare(record, record)
    return not found.stale


@dataclass
class _LookBack:
    """What was found on the way back through the records."""

    stale: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    followed: set[Path] = field(default_factory=set)

    def follow(self, path: Path) -> None:
        """Look at a file, at what it was made from, and so on."""
        if path in self.followed:
            return
        self.followed.add(path)
        record = _maker(path)
        if record is None:
            self.elsewhere.append(str(path))
            return
        model, sha256 = _files(record, "inputs").get("model", (None, None))
        if model and path.name.startswith("pseudo_labels"):  # those of a later cut say themselves what they come of
            made_by = read_json(path, "pseudo_labels_path").get("provenance", {}).get("model_sha256")
            if made_by not in (None, sha256):
                self.stale.append(f"{path} comes of another {model} than the clusters beside it (sha256 differs).")
        written = dict(_files(record, "outputs").values())
        if written.get(path, _sha256_once(path)) != _sha256_once(path):
            self.stale.append(f"{path} is not the file that {record} tells of (sha256 differs).")
        self.compare(path, record)

    def compare(self, path: Path, record: Path) -> None:
        """Look at what a file was made from, by the ``run.json`` of its stage."""
        written = dict(_files(record, "outputs").values())
        for name, (now, sha256) in _files(record, "inputs").items():
            if now in written:  # a training that went on from its own weights
                continue
            if not now.is_file():
                self.elsewhere.append(str(now))
            elif _sha256_once(now) != sha256:
                line = f"{path} was made from another {now} than the one that is there now (sha256 differs)."
                self.stale.append(line)
            elif name != "split":  # nothing is behind it but the data
                self.follow(now)


def _sha256_once(path: Path) -> str:
    """The sha256 of a file, which is read again only once it has changed."""
    state = path.stat()
    return _sha256_at(path, state.st_ino, state.st_size, state.st_mtime_ns)


@functools.cache
def _sha256_at(path: Path, *_: int) -> str:
    return sha256_of(path)


def _maker(path: Path) -> Path | None:
    """The record that lists a file among its outputs, or else lies beside it: of pseudo-labels, that of a later cut."""
    beside, around = path.with_name("run.json"), path.parent.parent
    for record in (beside, *sorted(around.glob("eval/*/run.json")), *sorted(around.glob("*/run.json"))):
        written = dict(_files(record, "outputs").values())
        if path in written or (written and record == beside):
            return record
    return None


def _files(record: Path, side: str) -> dict[str, tuple[Path, str]]:
    """Where the ``inputs`` or ``outputs`` of a ``run.json`` are now, and the sha256 that they had, by name."""
    content = found_json(record, "run.json")
    try:
        found = {
            name: (Path(file["path"]), str(file["sha256"])) for name, file in content.get(side, {}).items() if file
        }
        then, now = Path(content.get("folder", record.parent)), record.parent
    except (AttributeError, KeyError, TypeError) as e:
        raise InputError(
            f"{record} is damaged ({type(e).__name__}: {e}): what was made with it cannot be checked. Make it again."
        ) from e
    while then.name and then.name == now.name:
        then, now = then.parent, now.parent  # at last those of the folder that was moved, or the root
    return {
        name: (now / path.relative_to(then) if path.is_relative_to(then) else path, sha256)
        for name, (path, sha256) in found.items()
    }


@dataclass(frozen=True)
class Stage:
    """One stage of a run; paths are relative to the run's folder.

    Attributes:
        title: what it does.
        bundle: whose configurations it runs.
        config: the one that says what it does, e.g. ``"train"``.
        inputs: files of earlier stages that it reads.
        outputs: patterns of the files that the rest of the chain takes from it.
        reads: what of the data set has a say in its result.
        keys: of its configuration that are the same in every run.
    """

    title: str
    bundle: str
    config: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    reads: tuple[str, ...] = ("images",)
    keys: Mapping[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The folder of its record and tables."""
        return str(self.keys.get("output_dir", f"{self.bundle}/eval/{self.config}"))

    @property
    def record(self) -> str:
        """The ``run.json`` that it writes."""
        return f"{self.place}/run.json"


def _weights(folder: str) -> tuple[str, str]:
    return f"{folder}/model.pt", f"{folder}/network.json"


LABELLED = ("images", "labels")
SPLIT = f"{VAE}/eval/split.json"
LABELS = f"{VAE}/eval/inference/pseudo_labels.json"
FEATURES = f"{VAE}/eval/inference/features.npz"
QUALITY = f"{UNET}/eval/inference/quality.csv"
PROBED = f"{CONTRASTIVE}/eval/probe/probe.json"
VAE_WEIGHTS, ENCODER, UNET_WEIGHTS = (_weights(f"{bundle}/models") for bundle in (VAE, CONTRASTIVE, UNET))
RANDOM, ALONE = f"{UNET}/models_random", f"{UNET}/models_labelled_alone"
TRAIN_RANDOM = {"pretrained_path": "none", "ckpt_dir": RANDOM, "output_dir": f"{UNET}/eval/random_train"}
TEST_RANDOM = {"ckpt_dir": RANDOM, "output_dir": f"{UNET}/eval/random_evaluate"}
TRAIN_ALONE = {"ckpt_dir": ALONE, "output_dir": f"{UNET}/eval/labelled_alone_train"}
TEST_ALONE = {"ckpt_dir": ALONE, "output_dir": f"{UNET}/eval/labelled_alone_evaluate"}

STAGES = (
    Stage("stage 1: train the auto-encoder", VAE, "train", (), (*VAE_WEIGHTS, SPLIT)),
    Stage("stage 1: features and clusters", VAE, "inference", (*VAE_WEIGHTS, SPLIT), (LABELS, FEATURES)),
    Stage("stage 2: contrastive pretraining", CONTRASTIVE, "train", (LABELS, SPLIT), ENCODER),
    Stage("stage 2: linear probe of the encoder", CONTRASTIVE, "probe", (*ENCODER, LABELS), (PROBED,), LABELLED),
    Stage("stage 3: fine-tune, pretrained encoder", UNET, "train", (SPLIT, *ENCODER), UNET_WEIGHTS, LABELLED),
    Stage(
        "stage 3: test, pretrained encoder",
        *(UNET, "evaluate", (SPLIT, *UNET_WEIGHTS), (f"{UNET}/eval/evaluate/dice.csv",), LABELLED),
    ),
    Stage(
        "stage 3: fine-tune, random initialisation",
        *(UNET, "train", (SPLIT,), _weights(RANDOM), LABELLED, TRAIN_RANDOM),
    ),
    Stage(
        "stage 3: test, random initialisation",
        *(UNET, "evaluate", (SPLIT, *_weights(RANDOM)), (f"{UNET}/eval/random_evaluate/dice.csv",)),
        *(LABELLED, TEST_RANDOM),
    ),
    Stage(
        "stage 3: fine-tune, labelled scans alone",
        *(UNET, "train", (SPLIT, *ENCODER), _weights(ALONE), LABELLED, TRAIN_ALONE),
    ),
    Stage(
        "stage 3: test, labelled scans alone",
        *(UNET, "evaluate", (SPLIT, *_weights(ALONE)), (f"{UNET}/eval/labelled_alone_evaluate/dice.csv",)),
        *(LABELLED, TEST_ALONE),
    ),
    Stage(
        "stage 3: segment the unlabelled volumes",
        *(UNET, "inference", UNET_WEIGHTS, (f"{UNET}/eval/inference/**/*_seg.*",)),
        *(("images", "test_images"), {"unlabelled_only": True}),
    ),
)
"""In the order in which they run."""
VAE_TRAINING, CLUSTERS, PRETRAINING, PROBE, FINE_TUNING, TEST, *_controls, MASKS = STAGES
RANDOM_FINE_TUNING, RANDOM_TEST, ALONE_FINE_TUNING, ALONE_TEST = _controls
ARMS = {
    "random initialisation": (RANDOM_FINE_TUNING, RANDOM_TEST),
    "labelled scans alone": (ALONE_FINE_TUNING, ALONE_TEST),
    "pretrained encoder": (FINE_TUNING, TEST),
}
"""The fine-tuning of a run and its controls, of which each does without one thing: the training, and its test."""


def record_of(folder: Path, stage: Stage) -> dict[str, Any]:
    """The record of a stage; empty if it has not run.

    Args:
        folder: of the run.
        stage: of :data:`STAGES`.
    """
    return found_json(folder / stage.record, "--folder")


def data_set_of(record: Mapping[str, Any]) -> str:
    """The data set's folder that a stage was started with; empty if it is not known."""
    if asked := record.get("asked", {}).get("options", {}).get("--dataset_dir"):
        return str(asked)
    command = map(str, record.get("command", ()))  # of a stage run by hand
    words = [word for part in command for word in (part.split("=", 1) if part.startswith("--") else [part])]
    return words[words.index("--dataset_dir") + 1] if "--dataset_dir" in words[:-1] else ""


def standing_record(folder: Path, stage: Stage) -> dict[str, Any]:
    """The record of a stage that is complete and up to date; empty otherwise.

    A stage is out of date if a file that it was made from has another content now, or if a stage that it goes on from
    was begun anew and has not finished. A stage before that never ran here (weights from elsewhere) says nothing.
    """
    stages = [stage, *(earlier for earlier in _before(stage) if (folder / earlier.place).is_dir())]
    complete = all(record_of(folder, s).get("status") == "complete" for s in stages)
    stands = complete and are_up_to_date(folder / s.record for s in stages)
    return record_of(folder, stage) if stands else {}


def _before(stage: Stage) -> list[Stage]:
    """The stages that made what a stage reads, and so on; nothing but the data is behind the split."""
    read = set(stage.inputs) - {SPLIT}
    makers = [s for s in STAGES if read & set(s.outputs)]
    return makers + [earlier for maker in makers for earlier in _before(maker)]
