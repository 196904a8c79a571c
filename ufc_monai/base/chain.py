"""The chain of a run: its stages, the files that each reads and writes, and which of their records stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ufc_monai.base.bundles import CONTRASTIVE, UNET, VAE
from ufc_monai.base.files import found_json
from ufc_monai.base.lineage import are_up_to_date


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
PROBED = f"{CONTRASTIVE}/eval/probe/probe.json"
VAE_WEIGHTS, ENCODER, UNET_WEIGHTS = (_weights(f"{bundle}/models") for bundle in (VAE, CONTRASTIVE, UNET))
RANDOM = f"{UNET}/models_random"
TRAIN_RANDOM = {"pretrained_path": "none", "ckpt_dir": RANDOM, "output_dir": f"{UNET}/eval/random_train"}
TEST_RANDOM = {"ckpt_dir": RANDOM, "output_dir": f"{UNET}/eval/random_evaluate"}

STAGES = (
    Stage("stage 1: train the beta-VAE", VAE, "train", (), (*VAE_WEIGHTS, SPLIT)),
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
        "stage 3: segment the unlabelled volumes",
        *(UNET, "inference", UNET_WEIGHTS, (f"{UNET}/eval/inference/**/*_seg.*",)),
        *(("images", "test_images"), {"unlabelled_only": True}),
    ),
)
"""In the order in which they run."""
VAE_TRAINING, CLUSTERS, PRETRAINING, PROBE, FINE_TUNING, TEST, RANDOM_FINE_TUNING, RANDOM_TEST, MASKS = STAGES
ARMS = {"random initialisation": (RANDOM_FINE_TUNING, RANDOM_TEST), "pretrained encoder": (FINE_TUNING, TEST)}
"""Both starts of fine-tuning: the training, and its test."""


def record_of(folder: Path, stage: Stage) -> dict[str, Any]:
    """The record of a stage; empty if it has not run.

    Args:
        folder: of the run.
        stage: of :data:`STAGES`.
    """
    return found_json(folder / stage.record, "--folder")


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
