"""What the bundles' engines need beside MONAI's: batches, handlers, records. All of it is used from JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ufc_monai.engines.batch import PrepareBatch, PrepareCombinedBatch
from ufc_monai.engines.checkpoint import TrainingCheckpoint
from ufc_monai.engines.compute import (
    AutocastInferer,
    check_device,
    compiled,
    resolve_precision,
    set_threads,
    slices_at_once,
)
from ufc_monai.engines.configuration import configuration, settings_of
from ufc_monai.engines.console import checked_bool, readable_errors
from ufc_monai.engines.convergence import training_dice
from ufc_monai.engines.dice import DiceTable, MeanDice
from ufc_monai.engines.guard import LossGuard
from ufc_monai.engines.loaders import CombinedLoader
from ufc_monai.engines.log import MetricsLog
from ufc_monai.engines.monitors import ContrastiveMonitor, LatentMonitor
from ufc_monai.engines.overrides import check_overrides
from ufc_monai.engines.paint import ClusterPainter, keep_centroids
from ufc_monai.engines.prepare import prepare
from ufc_monai.engines.published import published_network, weights_digest
from ufc_monai.engines.record import RunRecord
from ufc_monai.engines.save import FeatureSaver, WeightsSaver
from ufc_monai.engines.schedule import MomentumSchedule
from ufc_monai.engines.settings import check_settings
from ufc_monai.engines.structures import StructureTable
from ufc_monai.engines.tracking import track
from ufc_monai.engines.validation import FinalValidationHandler
from ufc_monai.engines.verdict import PretrainingVerdict, pretraining_verdict
from ufc_monai.lazy import import_when_used

if TYPE_CHECKING:
    from ufc_monai.engines.guidance import PseudoLabeld, SliceNumberd, check_guidance, open_pseudo_labels
    from ufc_monai.engines.pictures import EmbeddingPicture, OverlaysPicture, ReconstructionsPicture, ViewsPicture
    from ufc_monai.engines.probe import LinearProbe, check_probe
    from ufc_monai.engines.pseudo_label import PseudoLabeller
else:
    __getattr__ = import_when_used(
        __name__,
        {
            "PseudoLabeld": "guidance",
            "SliceNumberd": "guidance",
            "check_guidance": "guidance",
            "open_pseudo_labels": "guidance",
            "EmbeddingPicture": "pictures",
            "OverlaysPicture": "pictures",
            "ReconstructionsPicture": "pictures",
            "ViewsPicture": "pictures",
            "LinearProbe": "probe",
            "check_probe": "probe",
            "PseudoLabeller": "pseudo_label",
        },
    )

__all__ = [
    "AutocastInferer",
    "ClusterPainter",
    "CombinedLoader",
    "ContrastiveMonitor",
    "DiceTable",
    "EmbeddingPicture",
    "FeatureSaver",
    "FinalValidationHandler",
    "LatentMonitor",
    "LinearProbe",
    "LossGuard",
    "MeanDice",
    "MetricsLog",
    "MomentumSchedule",
    "OverlaysPicture",
    "PrepareBatch",
    "PrepareCombinedBatch",
    "PretrainingVerdict",
    "PseudoLabeld",
    "PseudoLabeller",
    "ReconstructionsPicture",
    "RunRecord",
    "SliceNumberd",
    "StructureTable",
    "TrainingCheckpoint",
    "ViewsPicture",
    "WeightsSaver",
    "check_device",
    "check_guidance",
    "check_overrides",
    "check_probe",
    "check_settings",
    "checked_bool",
    "compiled",
    "configuration",
    "keep_centroids",
    "open_pseudo_labels",
    "prepare",
    "pretraining_verdict",
    "published_network",
    "readable_errors",
    "resolve_precision",
    "set_threads",
    "settings_of",
    "slices_at_once",
    "track",
    "training_dice",
    "weights_digest",
]
